"""What the lines of the runner mean. Pure; used by its `LineDriver` only.

    to the runner     hello{session, text}   turn{turn, argv, stdin}   interrupt{turn}   stop
    from it           ready   began{turn}   text{id, text}   message{id, text}   session{id}
                      log{text}   ended{turn, exit_code, said, failed}   bye

A conversation is known to be there once a turn of it ended well, put something out, or told its id:
only then do turns go on with it. One that was begun, and of which none of that was seen, is given
up for another id, for agents refuse an id that they may or may not have kept.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bridle_core import values
from bridle_core.observations import (
    Content,
    Decision,
    KeepState,
    Message,
    MessageText,
    Note,
    NoteKind,
    Resource,
    StopReason,
    Text,
)
from bridle_host.drivers.exec.template import SESSION, Pick, Template
from bridle_host.drivers.lines.dialect import (
    LINE,
    Began,
    Beginning,
    Bye,
    Ended,
    Launch,
    Order,
    Ready,
    Said,
    UnreadableError,
)

VERSION = 1

#: The longest line of a log and message of an end, in characters.
_LOG = 4096

_LOST = "what the agent itself knew of the conversation"
#: Whoever may do it again; the names of ours are made from it.
_OURS = uuid.UUID("6f0ba7d2-5a43-4f5c-9f5e-3f5f7f1b9d11")


@dataclass(frozen=True, slots=True)
class _Standing:
    """session: the conversation's id, known to be there or not. begun: of the turn that is on."""

    session: str = ""
    known: bool = False
    turn: int = 0


class ExecDialect:
    """See `Dialect`. argv: the runner's command line."""

    line_limit = LINE
    quiet = 0.0
    quiet_limit = 0.0
    seedable = True
    unasked = b""

    def __init__(
        self,
        argv: Sequence[str],
        template: Template,
        beginning: Beginning,
        standing: bytes | None = None,
    ) -> None:
        self._argv = argv
        self._template = template
        self._process = f"{beginning.session_id}/{beginning.run}/{beginning.serial}"
        self._resumed = False
        self._now = _Standing()
        if beginning.native and beginning.kept and template.resumes:
            self._resumed = True
            self._now = _Standing(_read(beginning.kept), known=True)
        if standing:
            self._now = values.load(_Standing, standing)

    @property
    def conversation(self) -> str:
        return self._now.session if self._now.known else ""

    def launch(self) -> Launch:
        return Launch(self._argv)

    def greet(self) -> Iterable[Order]:
        yield _order("hello", "hello", **_rules(self._template))

    def begin(self, turn: int, content: Sequence[Content]) -> Iterable[Order]:
        template, now = self._template, self._now
        later = template.resumes and now.known
        if not later:
            given = uuid.uuid5(_OURS, f"{self._process}/{turn}")
            now = _Standing(str(given) if template.gives_id else "")
        self._now = replace(now, turn=turn)
        prompt = "\n\n".join(_text(piece) for piece in content)
        argv = template.argv(prompt, now.session, later=later)
        stdin = prompt if template.by_stdin else None
        yield _order("turn", f"turn-{turn}", turn=turn, argv=argv, stdin=stdin)

    def read(self, line: bytes) -> Iterable[Said]:
        said = _Line(line)
        match said.text("type"):
            case "ready":
                yield Ready(resumed=self._resumed, lost=() if self._resumed else (_LOST,))
            case "began":
                yield Began(said.number("turn"))
            case "text":
                yield MessageText(said.text("id"), said.text("text"))
                yield from self._seen()
            case "message":
                yield Message(said.text("id"), (Text(said.text("text")),))
                yield from self._seen()
            case "session":
                yield from self._learned(said.text("id"))
            case "log":
                yield Note(NoteKind.AGENT_LOG, said.text("text")[:_LOG])
            case "ended":
                yield from self._ended(said)
            case "bye":
                yield Bye()
            case other:
                raise UnreadableError(f"there is no line of the type {other[:80]!r}")

    def steer(self, turn: str, input_id: str, content: Sequence[Content]) -> Iterable[Order]:
        return ()

    def interrupt(self, turn: str, *, include_background: bool) -> Iterable[Order]:
        yield _order("interrupt", f"interrupt-{turn}", turn=self._now.turn)

    def respond(
        self, turn: str, approval_id: str, decision: Decision, message: str
    ) -> Iterable[Order]:
        return ()

    def stop(self) -> Iterable[Order]:
        yield _order("stop", "stop")

    def standing(self) -> bytes:
        return values.dump(self._now).encode()

    # --- The conversation ---

    def _learned(self, name: str) -> Iterable[Said]:
        if not SESSION.fullmatch(name):
            raise UnreadableError("the agent tells a session id that is none")
        if name != self._now.session or not self._now.known:
            self._now = replace(self._now, session=name, known=True)
            yield self._keep()

    def _seen(self) -> Iterable[Said]:
        """The agent shows that it has the conversation whose id is ours."""
        if self._now.session and not self._now.known:
            self._now = replace(self._now, known=True)
            yield self._keep()

    def _ended(self, said: _Line) -> Iterable[Said]:
        code, failed = said.optional("exit_code"), said.text("failed")[:_LOG]
        if code == 0 and not failed:
            yield from self._seen()
            yield Ended(StopReason.COMPLETED, exit_code=0)
        elif code is None or failed:
            yield Ended(StopReason.FAILED, failed or "the command is gone without a trace", code)
        elif code > 128:
            yield Ended(StopReason.FAILED, f"the command was ended by signal {code - 128}", code)
        else:
            yield Ended(StopReason.FAILED, f"the command exited with {code}", code)

    def _keep(self) -> KeepState:
        kept = {"version": VERSION, "session": self._now.session}
        return KeepState(json.dumps(kept).encode())


class _Line:
    """One line's object, with each field asked for by its type. All raise UnreadableError."""

    def __init__(self, line: bytes) -> None:
        try:
            fields: Any = json.loads(line)
        except (ValueError, RecursionError):
            raise UnreadableError("it is no JSON") from None
        if not isinstance(fields, dict):
            raise UnreadableError("it is no object")
        self._fields = fields

    def text(self, name: str) -> str:
        value = self._fields.get(name, "")
        if not isinstance(value, str):
            raise UnreadableError(f"its {name} is no text")
        return value

    def optional(self, name: str) -> int | None:
        value = self._fields.get(name)
        if value is not None and (type(value) is not int or not 0 <= value < 1000):
            raise UnreadableError(f"its {name} is no small number")
        return value

    def number(self, name: str) -> int:
        value = self._fields.get(name)
        if type(value) is not int:
            raise UnreadableError(f"its {name} is no number")
        return value


def _order(kind: str, key: str, **fields: object) -> Order:
    return Order(key, json.dumps({"type": kind, **fields}).encode("ascii") + b"\n")


def _rules(template: Template) -> dict[str, object]:
    session = template.session
    told: object = {"re": session} if isinstance(session, str) else _place(session)
    return {"session": told, "text": _place(template.text)}


def _place(pick: Pick | None) -> dict[str, object] | None:
    if pick is None:
        return None
    where = pick.where.split(".") if pick.where else []
    return {"path": pick.path.split("."), "where": where, "equals": pick.equals}


def _text(piece: Content) -> str:
    if isinstance(piece, Text):
        return piece.text
    return piece.uri if isinstance(piece, Resource) else ""


def _read(kept: bytes) -> str:
    """Raises ValueError."""
    try:
        fields = json.loads(kept)
        session = fields["session"]
        if fields["version"] != VERSION or not SESSION.fullmatch(session):
            raise ValueError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError("there is no conversation to take up again that can be read") from None
    return str(session)
