"""The way to control: plaintext on this machine, TLS to any other."""

from __future__ import annotations

import pytest

from bridle_host import dial
from bridle_host.dial import Control, is_loopback
from bridle_host.enrolment import EnrolmentError, enroll
from tests.fakes.control import FakeControl


@pytest.mark.parametrize("address", ["localhost:1", "[::1]:1", "127.9.9.9:1"])
def test_control_on_this_machine_is_spoken_to_in_plaintext(address: str) -> None:
    assert is_loopback(address)
    assert Control(address).plaintext


@pytest.mark.parametrize("address", ["10.0.0.1:1", "example.com:1", "localhost.evil:1", "[::]:1"])
def test_control_elsewhere_is_spoken_to_by_tls_unless_told_otherwise(address: str) -> None:
    assert not is_loopback(address)
    assert not Control(address).plaintext
    assert Control(address, insecure=True).plaintext


async def test_no_secret_is_told_to_a_server_that_cannot_prove_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dial, "is_loopback", lambda address: False)
    async with FakeControl() as control:
        with pytest.raises(EnrolmentError, match="can't be reached"):
            await enroll(Control(control.address), "laptop", "brj_good")
        assert control.enrolled == []
