"""The audit log: who did what, one JSON line for each call that changes something or is refused.

    {"time": "2025-01-31T12:00:00.123456Z", "method": "bridle.v1.SessionService/Kill",
     "principal": "USER", "principal_id": "0194…", "principal_name": "admin", "token_id": "0194…",
     "workspace": "default", "session": "fix-auth", "session_id": "0194…", "request_id": "0194…",
     "command_id": "0194…", "code": "OK", "outcome": "RAN", "peer": "ipv4:10.0.0.7:51244"}

Told are: every call of a method that changes something (`changes` in the table of rights),
accepted or refused; every call of any method that is refused for who calls (UNAUTHENTICATED,
PERMISSION_DENIED); and with `reads` those that read transcripts. A host's link, and a Watch, are
told when they open and when they end (`stream`). What is not known or is empty is left out.

A line holds the fields that are named here, never a payload and never a secret; what came from
outside is cut, and nothing in it can end its line or hide in it: all but printable ASCII is
escaped. Refusals of one caller for one reason are told twenty times a minute, here and in
control's log; how many more there were stands in a line of its own (`repeated`). How lines come to
the disk: see `audit_file`.

Called by the interceptor, and by `app`, which runs it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from opentelemetry.trace import Span

from bridle.v1 import principal_pb2, receipt_pb2
from bridle_control.audit_file import AuditFile
from bridle_control.auth import DeadTokenError
from bridle_control.caller import Caller
from bridle_control.logs import kv, masked
from bridle_control.settings import SettingsError
from bridle_control.throttle import Kind, Throttle
from bridle_core.errors import BridleError, Code, Reason
from bridle_core.rights import Requirement

_log = logging.getLogger("bridle.control.calls")

#: How often it is looked for what was counted and not told, in seconds.
_TICK = 5.0
#: How long the end may take, in seconds: a disk that hangs does not keep control from ending.
_PATIENCE = 2.0
#: No field is longer than that, in characters.
_VALUE_MAX = 256
_ITEMS_MAX = 64

#: What is told of a request, where it has such a field: whom it is about and how far it goes.
_ASKED = (
    *("request_id", "workspace", "slug", "host", "agent", "name", "token", "rights"),
    *("all_workspaces", "approval_id", "decision", "input_id", "force", "undo", "tree"),
)
#: Methods whose answers are what an agent was told and said.
TRANSCRIPTS = frozenset(
    "/bridle.v1.SessionService/" + name
    for name in ("Watch", "ListEvents", "ListInputs", "ReadArtifact")
)

#: Refusals that somebody who looks after the service wants to see in its log as well.
_LOGGED = frozenset(
    {
        Reason.TOKEN_INVALID,
        Reason.TOKEN_EXPIRED,
        Reason.TOKEN_REVOKED,
        Reason.NOT_ALLOWED,
        Reason.LOG_CORRUPT,
        Reason.STORE_FULL,
        Reason.RATE_LIMITED,
    }
)
#: Codes that are about who calls.
_ABOUT_WHO = frozenset({Code.UNAUTHENTICATED, Code.PERMISSION_DENIED})


_PRINCIPALS = {
    number: name.removeprefix("PRINCIPAL_KIND_")
    for name, number in principal_pb2.PrincipalKind.items()
}
_STATES = {
    number: name.removeprefix("OUTCOME_STATE_") for name, number in receipt_pb2.OutcomeState.items()
}


@dataclass(slots=True)
class Seen:
    """One call, as far as it has come."""

    method: str
    requirement: Requirement
    peer: str = ""
    caller: Caller | None = None
    request: object = None
    response: object = None
    #: Whether it is a stream that was told of when it opened.
    open: bool = False
    #: When it came, in ns since the epoch, and its part of its caller's trace.
    began: int = 0
    span: Span | None = None


class Audit:
    """See the module. Used from the event loop alone; nothing but `open` waits or fails."""

    def __init__(
        self,
        path: Path | None = None,
        *,
        reads: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], int] = time.time_ns,
    ) -> None:
        """Without a path nothing is written; refusals are still logged, within their limits."""
        self._path = path
        self._reads = reads
        self._wall = wall
        self._second = (-1, "")  # the newest one, as text
        self._throttle = Throttle(monotonic)
        self._file = AuditFile(path, self._lost) if path is not None else None

    def open(self) -> None:
        """Opens the file. Raises SettingsError."""
        if self._file is None:
            return
        try:
            self._file.open()
        except OSError as error:
            raise SettingsError(f"audit-log: {self._path}: {error.strerror}") from error

    def reopen(self) -> None:
        """The file was renamed: the next line goes into a new one."""
        if self._file is not None:
            self._file.reopen()

    def close(self) -> None:
        """Tells what was counted, and writes what waits, for two seconds at most."""
        self._tell_counted(everything=True)
        if self._file is not None and not self._file.close(_PATIENCE):
            _log.error("the audit log hangs; what waited for it is lost")

    async def run(self) -> None:
        """Tells what was counted when its time has come, until cancelled."""
        while True:
            await asyncio.sleep(_TICK)
            self._tell_counted()

    # ------------------------------------------------------------ what the interceptor tells

    def opened(self, seen: Seen) -> None:
        """A stream began that is told of."""
        if self._told(seen):
            self._write(seen, code="OK", stream="OPENED")
            seen.open = True

    def over(self, seen: Seen) -> None:
        """A call was answered, or a stream ended well."""
        if self._told(seen):
            self._write(seen, code="OK")

    def failed(self, seen: Seen, error: BridleError) -> None:
        """A call, or a stream, ended with an error."""
        code = error.code
        logged = error.reason in _LOGGED
        told = self._told(seen) or code in _ABOUT_WHO
        if not (logged or told) or not self._throttle.admits(_kind(seen, error)):
            return
        if logged:
            fields = kv(method=seen.method, reason=error.reason, peer=seen.peer)
            _log.warning("refused", extra=fields)
        if told:
            fault = error.metadata.get("id", "") if error.reason is Reason.INTERNAL else ""
            ended = {"code": code.name, "reason": str(error.reason), "fault_id": fault}
            if isinstance(error, DeadTokenError):
                ended["token_id"] = error.token_id
            self._write(seen, **ended)

    def cancelled(self, seen: Seen) -> None:
        """The client went away: what it asked for may have been accepted.

        Not before it was known who calls; such lines would cost a flood without a token nothing.
        """
        if seen.caller is not None and self._told(seen):
            self._write(seen, code="CANCELLED")

    def _told(self, seen: Seen) -> bool:
        return seen.requirement.changes or (self._reads and seen.method in TRANSCRIPTS)

    # ------------------------------------------------------------ lines

    def _write(self, seen: Seen, **ended: str) -> None:
        if self._file is None:
            return
        line: dict[str, object] = {"time": self._time(), "method": seen.method.lstrip("/")}
        line.update(_who(seen.caller))
        line.update(_asked(seen.request))
        line.update(_answered(seen.response))
        if seen.caller is not None:
            line.setdefault("workspace", seen.caller.own_workspace)
        line.update(ended)
        if seen.open:
            line["stream"] = "CLOSED"
        line["peer"] = seen.peer
        self._file.put(encode(line))

    def _tell_counted(self, *, everything: bool = False) -> None:
        for kind, count in self._throttle.counted(everything=everything):
            who, reason = kind if len(kind) == 2 else (kind[0], "")
            _log.warning("refused", extra=kv(who=who, reason=reason, repeated=count))
            if self._file is not None:
                line = {"time": self._time(), "who": who, "reason": reason, "repeated": count}
                self._file.put(encode(line))

    def _lost(self, count: int) -> str:
        return encode({"time": self._time(), "lost": count})

    def _time(self) -> str:
        seconds, rest = divmod(self._wall(), 10**9)
        if seconds != self._second[0]:
            self._second = seconds, datetime.fromtimestamp(seconds, UTC).isoformat()[:19]
        return f"{self._second[1]}.{rest // 1000:06}Z"


def encode(line: dict[str, object]) -> str:
    """One line of printable ASCII, without empty values and without secrets."""
    text = _encode({key: _cut(value) for key, value in line.items() if value})
    if "br" in text:  # as all secrets begin, whose characters JSON leaves as they are
        text = masked(text).replace("…", "\\u2026")
    return text.replace("\x7f", "\\u007f") if "\x7f" in text else text


_encode = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode


def _cut(value: object) -> object:
    if isinstance(value, str):
        return value if len(value) <= _VALUE_MAX else value[:_VALUE_MAX] + "…"
    if isinstance(value, list):
        return [_cut(item) for item in value[:_ITEMS_MAX]]
    return value


def _kind(seen: Seen, error: BridleError) -> Kind:
    """Whose refusals are counted together: a token's, else those of an address."""
    who = seen.caller.token_id if seen.caller is not None else seen.peer.rpartition(":")[0]
    return who, str(error.reason)


def _who(caller: Caller | None) -> Iterator[tuple[str, object]]:
    if caller is None:
        return
    principal = caller.principal
    yield "principal", _PRINCIPALS.get(principal.kind, "")
    yield "principal_id", principal.id
    yield "principal_name", principal.name
    yield "token_id", caller.token_id


@cache
def _fields(descriptor: Descriptor) -> tuple[tuple[str, Any], ...]:
    """The fields of a request that are told, by their names."""
    found = []
    for name in _ASKED:
        field = descriptor.fields_by_name.get(name)
        if field is not None:
            found.append((name, field))
    return tuple(found)


def _asked(request: object) -> Iterator[tuple[str, object]]:
    if not isinstance(request, Message):
        return
    known = _fields(request.DESCRIPTOR)
    for name, field in known:
        value = getattr(request, name)
        if not value:
            continue
        if field.enum_type is not None:
            named = field.enum_type.values_by_number.get(value)
            value = named.name if named is not None else int(value)
        elif field.is_repeated:
            value = list(value)
        yield name, value
    session = getattr(request, "session", None)
    if session is not None:
        yield "workspace", session.workspace
        by_id = session.WhichOneof("ref") == "id"
        yield "session_id" if by_id else "session", session.id if by_id else session.slug


def _answered(response: object) -> Iterator[tuple[str, object]]:
    if not isinstance(response, Message):
        return
    receipt = getattr(response, "receipt", None)
    if isinstance(receipt, receipt_pb2.Receipt):
        yield "request_id", receipt.request_id
        yield "command_id", receipt.command_id
        if receipt.session_id:
            yield "session_id", receipt.session_id
        yield "outcome", _STATES.get(receipt.outcome.state, "")
    children = getattr(response, "children", None)
    if children:
        yield "children", len(children)
    session = getattr(response, "session", None)
    if session is not None:
        yield "host_id", session.host_id
    token = getattr(response, "token", None)
    if isinstance(token, Message):
        yield (
            "made" if hasattr(response, "secret") else "token_id_of",
            getattr(token, "token_id", ""),
        )
    if "credential" in response.DESCRIPTOR.fields_by_name:  # Enroll's: the host that was made
        yield "host_id", getattr(response, "host_id", "")
