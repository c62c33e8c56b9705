"""The audit log: what it tells, what never stands in it, and what a disk that fails does to it."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import stat
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridle.v1 import (
    host_service_pb2,
    host_service_pb2_grpc,
    identity_service_pb2,
    identity_service_pb2_grpc,
    principal_pb2,
    session_service_pb2,
    session_service_pb2_grpc,
)
from bridle_control import audit, audit_file
from bridle_control.app import Control
from bridle_control.audit import Audit, Seen, encode
from bridle_control.audit_file import WAITING_MAX, AuditFile
from bridle_control.caller import Caller
from bridle_control.ids import uuid7
from bridle_control.settings import Address, Settings, SettingsError
from bridle_control.throttle import FIRST, KINDS_MAX, OTHERS, WINDOW, Throttle
from bridle_control.tokens import hash_secret
from bridle_core.rights import REQUIREMENT_OF, CredentialKind
from tests.bridle_control.serving import RunningControl, bearer, control_server, fails, mint, opened

pb: Any = identity_service_pb2
sessions: Any = session_service_pb2
SECRET = "brt_" + "Aa0_-" * 8 + "xyz"
#: Seconds that the log's own thread, or the disk, may stand still.
PATIENCE = 30.0


@pytest.fixture(autouse=True)
def _all_is_written_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a slow disk, which control doesn't wait for, would leave out lines at its end."""
    monkeypatch.setattr(audit, "_PATIENCE", PATIENCE)


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[RunningControl]:
    async with control_server(tmp_path / "store") as running:
        yield running


def lines_of(path: Path) -> list[dict[str, Any]]:
    """Every line must be a JSON object of its own, in printable ASCII."""
    raw = path.read_bytes()
    assert raw == b"" or raw.endswith(b"\n")
    assert all(0x20 <= byte < 0x7F or byte == 0x0A for byte in raw)
    return [json.loads(line) for line in raw.splitlines()]


def wait_for(condition: Any) -> None:
    """Waits for what the audit log's own thread does."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        threading.Event().wait(0.005)


async def told(path: Path, count: int) -> list[dict[str, Any]]:
    """The lines, once there are so many."""
    async with asyncio.timeout(PATIENCE):
        while len(found := lines_of(path)) < count:  # noqa: ASYNC110 (a thread writes it)
            await asyncio.sleep(0.005)
    return found


def log_of(control: RunningControl, tmp_path: Path) -> Path:
    return tmp_path / "store" / "audit.jsonl"


# --- what is told --------------------------------------------------------------------------------


async def test_a_call_that_changes_something_is_one_line_of_who_did_what(
    control: RunningControl, tmp_path: Path
) -> None:
    stub: Any = identity_service_pb2_grpc.IdentityServiceStub(control.channel)
    request = pb.CreateTokenRequest(name="ci", rights=["session.read"], request_id=uuid7())
    made = await stub.CreateToken(request, metadata=control.metadata)
    await stub.ListTokens(pb.ListTokensRequest(), metadata=control.metadata)
    await stub.RevokeToken(pb.RevokeTokenRequest(token="ci"), metadata=control.metadata)
    created, revoked = await told(log_of(control, tmp_path), 2)
    assert created.pop("time").endswith("Z")
    assert created.pop("peer").startswith("ipv4:127.0.0.1:")
    admin = created.pop("token_id")
    assert created == {
        "method": "bridle.v1.IdentityService/CreateToken",
        "principal": "USER",
        "principal_id": admin,
        "principal_name": "admin",
        "workspace": "default",
        "name": "ci",
        "rights": ["session.read"],
        "request_id": request.request_id,
        "command_id": made.receipt.command_id,
        "outcome": "RAN",
        "made": made.token.token_id,
        "code": "OK",
    }
    assert (revoked["method"], revoked["token"]) == ("bridle.v1.IdentityService/RevokeToken", "ci")
    assert made.secret not in log_of(control, tmp_path).read_text()


async def test_a_refusal_is_told_with_its_code_its_reason_and_whom_it_was_about(
    control: RunningControl, tmp_path: Path
) -> None:
    stub: Any = session_service_pb2_grpc.SessionServiceStub(control.channel)
    weak = bearer(await mint(control.store, name="weak", rights=("session.read",)))
    kill = sessions.KillRequest(session={"slug": "fix-auth", "workspace": "default"})
    await fails(stub.Kill(kill, metadata=control.metadata))
    await fails(stub.Kill(kill, metadata=weak))
    await fails(stub.Kill(kill))
    await fails(stub.GetSession(session_service_pb2.GetSessionRequest(session=kill.session)))
    found = await told(log_of(control, tmp_path), 4)
    assert [(line["code"], line["reason"]) for line in found] == [
        ("NOT_FOUND", "SESSION_NOT_FOUND"),
        ("PERMISSION_DENIED", "NOT_ALLOWED"),
        ("UNAUTHENTICATED", "TOKEN_MISSING"),
        ("UNAUTHENTICATED", "TOKEN_MISSING"),
    ]
    assert (found[0]["workspace"], found[0]["session"]) == ("default", "fix-auth")
    assert [line.get("principal_name") for line in found] == ["admin", "weak", None, None]


async def test_the_use_of_a_token_that_is_dead_names_the_token(
    control: RunningControl, tmp_path: Path
) -> None:
    secret = await mint(control.store, name="old", expire_time=time.time_ns() - 1)
    row = await control.store.read(lambda tx: tx.token_by_hash(hash_secret(secret)))
    assert row is not None
    stub: Any = identity_service_pb2_grpc.IdentityServiceStub(control.channel)
    found = await fails(stub.WhoAmI(pb.WhoAmIRequest(), metadata=bearer(secret)))
    assert row.token_id not in found.raw
    [line] = await told(log_of(control, tmp_path), 1)
    assert (line["reason"], line["token_id"]) == ("TOKEN_EXPIRED", row.token_id)


async def test_who_reads_transcripts_is_told_only_where_it_is_asked_for(tmp_path: Path) -> None:
    for reads in (False, True):
        store = tmp_path / f"store-{reads}"
        settings = Settings(store=store, listen=Address("127.0.0.1", 0), audit_reads=reads)
        async with control_server(store, settings=settings) as control:
            stub: Any = session_service_pb2_grpc.SessionServiceStub(control.channel)
            request = sessions.ListEventsRequest(session={"slug": "x"})
            await fails(stub.ListEvents(request, metadata=control.metadata))
        found = lines_of(store / "audit.jsonl")
        assert [line["session"] for line in found] == (["x"] if reads else [])


async def test_a_secret_that_is_handed_in_as_a_name_is_not_written_down(
    control: RunningControl, tmp_path: Path
) -> None:
    stub: Any = identity_service_pb2_grpc.IdentityServiceStub(control.channel)
    await fails(stub.RevokeToken(pb.RevokeTokenRequest(token=SECRET), metadata=control.metadata))
    [line] = await told(log_of(control, tmp_path), 1)
    assert line["token"] == "brt_…"


async def test_what_is_asked_of_a_request_that_breaks_its_rules_is_cut_and_can_not_forge_a_line(
    control: RunningControl, tmp_path: Path
) -> None:
    stub: Any = host_service_pb2_grpc.HostServiceStub(control.channel)
    forged = 'x"}\n{"time":"now","code":"OK"}\r\x1b[2J\u202e\u009b' + "y" * 5000
    request = host_service_pb2.RemoveHostRequest(host=forged)
    await fails(stub.RemoveHost(request, metadata=control.metadata))
    [line] = await told(log_of(control, tmp_path), 1)
    assert line["host"] == forged[:256] + "…"
    assert line["reason"] == "INVALID_REQUEST"


async def test_a_flood_of_refusals_is_counted_and_not_written_one_by_one(
    control: RunningControl, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = "/bridle.v1.IdentityService/WhoAmI"
    call: Any = control.channel.unary_unary(path)
    total = 300
    for _ in range(total):
        await fails(call(b"", metadata=bearer("brt_" + "A" * 43)))
    control.stop.set()
    await control.running
    found = lines_of(log_of(control, tmp_path))
    assert sum(line.get("repeated", 1) for line in found) == total
    assert len(found) == FIRST + 1
    assert found[-1]["who"] == "ipv4:127.0.0.1"
    assert sum(record.message == "refused" for record in caplog.records) == FIRST + 1


def test_a_cancelled_call_is_told_of_only_once_its_caller_is_known(tmp_path: Path) -> None:
    method = "/bridle.v1.SessionService/Kill"
    audit = Audit(tmp_path / "audit.jsonl")
    audit.open()
    audit.cancelled(Seen(method, REQUIREMENT_OF[method], "ipv4:10.0.0.7:1"))
    caller = Caller(
        kind=CredentialKind.USER,
        token_id="t1",
        principal=principal_pb2.Principal(name="ann"),
        workspace="default",
        rights=("*",),
    )
    audit.cancelled(Seen(method, REQUIREMENT_OF[method], "ipv4:10.0.0.7:1", caller))
    audit.close()
    (line,) = lines_of(tmp_path / "audit.jsonl")
    assert (line["code"], line["principal_name"]) == ("CANCELLED", "ann")


async def test_the_kernel_refuses_the_file_and_stop_and_kill_go_on(
    control: RunningControl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that fails, and one that hangs, keep nobody waiting; and no line is lost after."""
    monkeypatch.setattr(audit_file, "RETRY_AFTER", 0.01)
    stub: Any = session_service_pb2_grpc.SessionServiceStub(control.channel)
    kill = sessions.KillRequest(session={"slug": "x"})
    released = threading.Event()
    real = os.write

    def broken(descriptor: int, data: bytes) -> int:
        released.wait(2 * PATIENCE)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", broken)
    async with asyncio.timeout(PATIENCE):
        for _ in range(5):
            assert (await fails(stub.Kill(kill, metadata=control.metadata))).reason
    assert lines_of(log_of(control, tmp_path)) == []
    monkeypatch.setattr(os, "write", real)
    released.set()
    assert len(await told(log_of(control, tmp_path), 5)) == 5


# --- the file ------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Iterator[AuditFile]:
    made = AuditFile(tmp_path / "audit.jsonl", lambda count: encode({"lost": count}))
    made.open()
    yield made
    assert made.close(PATIENCE)


def test_the_file_is_of_its_owner_alone_also_where_it_was_not(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_text("")
    path.chmod(0o644)
    made = AuditFile(path, lambda count: "")
    made.open()
    assert made.close(PATIENCE)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_that_can_not_be_one_is_a_mistake_in_the_settings(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "no" / "such", tmp_path / "link", tmp_path / "fifo"):
        with pytest.raises(OSError, match=r"."):
            AuditFile(path, lambda count: "").open()
    assert not (tmp_path / "elsewhere").exists()


async def test_control_does_not_start_without_the_audit_log_that_it_was_told(
    tmp_path: Path,
) -> None:
    settings = Settings(
        store=tmp_path / "store", listen=Address("127.0.0.1", 0), audit_log=tmp_path
    )
    async with opened(tmp_path / "store") as store:
        with pytest.raises(SettingsError, match="audit-log"):
            Control(settings, store)


def test_a_line_that_a_crash_cut_off_is_ended_before_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_text('{"a":1}\n{"b":')
    made = AuditFile(path, lambda count: "")
    made.open()
    made.put('{"c":1}')
    assert made.close(PATIENCE)
    assert path.read_text() == '{"a":1}\n{"b":\n{"c":1}\n'


def test_a_line_that_did_not_fit_is_taken_back_and_written_later(
    file: AuditFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_file, "RETRY_AFTER", 0.01)
    real, short = os.write, threading.Event()

    def cut(descriptor: int, data: bytes) -> int:
        if short.is_set():
            return real(descriptor, data)
        written = real(descriptor, data[: len(data) // 2])
        short.set()
        return written

    monkeypatch.setattr(os, "write", cut)
    file.put('{"first":1}')
    wait_for(lambda: (tmp_path / "audit.jsonl").read_text() == '{"first":1}\n')


def test_what_a_full_queue_could_not_take_is_counted(
    file: AuditFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_file, "RETRY_AFTER", 0.01)
    real = os.write

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "write", full)
    total = 2 * WAITING_MAX + 77
    for number in range(1, total + 1):
        file.put(encode({"number": number}))
    monkeypatch.setattr(os, "write", real)
    path = tmp_path / "audit.jsonl"

    def counted() -> tuple[list[int], int]:
        raw = path.read_bytes()
        lines = [json.loads(line) for line in raw[: raw.rfind(b"\n") + 1].splitlines()]
        numbers = [line["number"] for line in lines if "number" in line]
        return numbers, sum(line.get("lost", 0) for line in lines)

    wait_for(lambda: len(counted()[0]) + counted()[1] == total)
    numbers, lost = counted()
    assert lost >= 77
    assert len(numbers) >= WAITING_MAX
    assert numbers == sorted(set(numbers))


def test_the_file_is_opened_anew_when_it_was_renamed(file: AuditFile, tmp_path: Path) -> None:
    path, old = tmp_path / "audit.jsonl", tmp_path / "audit.1"
    file.put('{"n":1}')
    wait_for(lambda: path.read_text() != "")
    path.rename(old)
    file.reopen()
    file.put('{"n":2}')
    wait_for(lambda: path.exists() and path.read_text() != "")
    assert (old.read_text(), path.read_text()) == ('{"n":1}\n', '{"n":2}\n')


def test_a_rename_is_noticed_without_a_signal(
    file: AuditFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_file, "SYNC_EVERY", 0.0)
    path = tmp_path / "audit.jsonl"
    path.unlink()
    file.put('{"n":1}')
    wait_for(lambda: path.exists() and path.read_text() == '{"n":1}\n')


# --- lines and counts ----------------------------------------------------------------------------


@given(st.dictionaries(st.sampled_from(["slug", "host", "name"]), st.text(), min_size=1))
def test_whatever_is_in_it_a_line_is_one_line_of_printable_ascii(fields: dict[str, str]) -> None:
    line = encode(dict(fields))
    assert all(" " <= char <= "~" for char in line)
    kept = {key: value for key, value in fields.items() if value}
    assert json.loads(line) == kept


def test_a_secret_is_cut_to_its_prefix_wherever_it_stands() -> None:
    padded = "x" * 230 + SECRET
    for value in (SECRET, f"a {SECRET} b", padded, [SECRET]):
        assert "Aa0_-" not in encode({"value": value})


def test_of_each_kind_the_first_are_told_and_no_count_is_lost() -> None:
    now = 0.0
    throttle = Throttle(lambda: now)
    asked: dict[tuple[str, ...], int] = {}
    told_: dict[tuple[str, ...], int] = {}
    for number in range(KINDS_MAX * 60):
        kind = (f"10.0.{number % (2 * KINDS_MAX)}", "TOKEN_INVALID")
        known = kind if number % (2 * KINDS_MAX) < KINDS_MAX else OTHERS
        asked[known] = asked.get(known, 0) + 1
        told_[known] = told_.get(known, 0) + throttle.admits(kind)
    assert throttle.counted() == []
    now = WINDOW
    counted = dict(throttle.counted())
    assert all(told_[kind] + counted.get(kind, 0) == asked[kind] for kind in asked)
    assert max(told_.values()) == FIRST
    assert len(told_) == KINDS_MAX + 1
    assert throttle.counted(everything=True) == []


def test_after_a_window_a_kind_is_told_again() -> None:
    now = 0.0
    throttle = Throttle(lambda: now)
    assert [throttle.admits(("a",)) for _ in range(FIRST + 2)] == [True] * FIRST + [False] * 2
    now = WINDOW + 1
    assert throttle.admits(("a",))
    assert throttle.counted() == [(("a",), 2)]


def test_grpc_codes_are_named_as_grpc_names_them() -> None:
    from bridle_core.errors import Code

    assert {code.name for code in Code} <= {code.name for code in grpc.StatusCode}
