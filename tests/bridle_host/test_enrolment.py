"""Becoming a host: a join token becomes a credential, or there is one clear line."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from bridle_core.errors import Reason
from bridle_host import enrolment
from bridle_host.dial import Control
from bridle_host.enrolment import EnrolmentError, enroll, read_join_token
from bridle_host.state_directory import Credential
from tests.fakes.control import FakeControl


async def test_a_join_token_becomes_a_credential() -> None:
    async with FakeControl() as control:
        credential = await enroll(Control(control.address), "laptop", "brj_good")
    assert credential == Credential("host-1", "laptop", "default", "brh_good")
    assert control.enrolled == ["laptop"]


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (Reason.TOKEN_EXPIRED, "refuses the join token (TOKEN_EXPIRED); make a new one"),
        (Reason.TOKEN_REVOKED, "refuses the join token (TOKEN_REVOKED)"),
        (Reason.NAME_TAKEN, 'a host named "laptop" exists'),
        (Reason.INVALID_REQUEST, "INVALID_ARGUMENT: refused"),
        (Reason.INTERNAL, "INTERNAL: refused"),
    ],
)
async def test_each_refusal_says_what_to_do(reason: Reason, words: str) -> None:
    async with FakeControl() as control:
        control.faults.refuse_enroll = reason
        with pytest.raises(EnrolmentError, match=re.escape(words)) as caught:
            await enroll(Control(control.address), "laptop", "brj_good")
    assert "\n" not in str(caught.value)


async def test_a_wrong_join_token_is_refused_and_not_told_to_anybody() -> None:
    async with FakeControl() as control:
        with pytest.raises(EnrolmentError, match="TOKEN_INVALID") as caught:
            await enroll(Control(control.address), "laptop", "brj_bad")
    assert "brj_bad" not in str(caught.value)


async def test_a_control_that_is_away_is_one_clear_line() -> None:
    with pytest.raises(EnrolmentError, match=r"at 127\.0\.0\.1:1: control can't be reached"):
        await enroll(Control("127.0.0.1:1"), "laptop", "brj_good")


async def test_a_control_that_stands_still_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(enrolment, "ENROLL_TIMEOUT", 0.05)
    with (
        socket.create_server(("127.0.0.1", 0)) as door,  # nobody opens it
        pytest.raises(EnrolmentError, match="DEADLINE_EXCEEDED"),
    ):
        await enroll(Control(f"127.0.0.1:{door.getsockname()[1]}"), "laptop", "brj_good")


def test_a_join_token_is_read_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "join"
    path.write_text("brj_good\n")
    assert read_join_token(path) == "brj_good"


@pytest.mark.parametrize("raw", [b"", b"\n", b"two words", b"two\nlines", b"\xff", "ü".encode()])
def test_a_file_that_holds_no_join_token_is_one_clear_line(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "join"
    path.write_bytes(raw)
    with pytest.raises(EnrolmentError, match="join token file"):
        read_join_token(path)
    with pytest.raises(EnrolmentError, match="can't be read"):
        read_join_token(tmp_path / "missing")
