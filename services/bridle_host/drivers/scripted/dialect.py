"""What the lines of a scripted agent mean. Pure; used by its `LineDriver` only.

The agent remembers what its script tells it to, and which tools need no leave any more. A later
process is told both if it takes the conversation up again, and the latter in any case.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bridle_core import values
from bridle_core.observations import Content, Decision, KeepState, Note, NoteKind
from bridle_host.drivers.lines.dialect import (
    LINE,
    Began,
    Beginning,
    Ended,
    Launch,
    Order,
    Ready,
    Said,
)
from bridle_host.drivers.scripted import wire

#: What the agent may want to have kept, in bytes of JSON.
MEMORY = 128 * 1024

VERSION = 1

_MEMORY_LOST = "what the agent remembered"


@dataclass(frozen=True, slots=True)
class _Standing:
    kept: bool = False
    quiet: float = 0.0
    seedable: bool = False
    open: bool = False


class ScriptedDialect:
    """See `Dialect`. argv: the agent's command line."""

    line_limit = LINE
    quiet_limit = 2.0
    unasked = b'"turn": null'

    def __init__(
        self, argv: Sequence[str], beginning: Beginning, standing: bytes | None = None
    ) -> None:
        self._argv = argv
        self._native = beginning.native
        self._memory: Mapping[str, str] = {}
        self._always: tuple[str, ...] = ()
        known = values.load(_Standing, standing) if standing else _Standing()
        #: Whether it was told in this process what to keep.
        self._kept = known.kept
        #: What its script is to try out; see `Dialect`.
        self.quiet = known.quiet
        self.seedable = known.seedable
        self._open = known.open
        process = f"{beginning.session_id}\0{beginning.run}\0{beginning.serial}"
        self.conversation = hashlib.sha256(process.encode()).hexdigest()[:32]
        if beginning.kept:
            conversation, self._memory, self._always = _read(beginning.kept)
            if beginning.native:
                self.conversation = conversation

    def launch(self) -> Launch:
        return Launch(self._argv)

    def greet(self) -> Iterable[Order]:
        known = {"conversation": self.conversation, "memory": self._memory}
        resume = known if self._native else None
        yield _order("hello", "hello", resume=resume, always=self._always)

    def read(self, line: bytes) -> Iterable[Said]:
        said = wire.read(line)
        if isinstance(said, tuple):
            return said
        if isinstance(said, wire.Up):
            self.quiet, self.seedable = said.quiet, said.seedable
            lost = () if said.resumed else (_MEMORY_LOST,)
            memory = self._memory if said.resumed else {}
            kept = () if self._kept else (self._keep(memory, self._always),)
            return (Ready(said.version, said.resumed, lost), *kept)
        if isinstance(said, wire.Memory):
            return (self._remember(said.memory, said.always),)
        if isinstance(said, Began | Ended):
            self._open = isinstance(said, Began)
        return (said,)

    def begin(self, turn: int, content: Sequence[Content]) -> Iterable[Order | Began]:
        yield _order("turn", f"turn-{turn}", turn=turn, content=wire.content_of(content))

    def steer(self, turn: str, input_id: str, content: Sequence[Content]) -> Iterable[Order]:
        fields = {"input": input_id, "content": wire.content_of(content)}
        yield _order("steer", f"steer-{input_id}", **fields)

    def interrupt(self, turn: str, *, include_background: bool) -> Iterable[Order]:
        if self._open:  # else it is lost
            yield _order("interrupt", f"interrupt-{turn}")

    def respond(
        self, turn: str, approval_id: str, decision: Decision, message: str
    ) -> Iterable[Order]:
        fields = {"approval": approval_id, "decision": decision.value, "message": message}
        yield _order("respond", f"respond-{turn}-{approval_id}", **fields)

    def stop(self) -> Iterable[Order]:
        yield _order("stop", "stop")

    def standing(self) -> bytes:
        return values.dump(_Standing(self._kept, self.quiet, self.seedable, self._open)).encode()

    def _remember(self, memory: Mapping[str, str], always: tuple[str, ...]) -> Said:
        if len(json.dumps([memory, always])) > MEMORY:
            return Note(NoteKind.STATE_LOST, "the agent wants more kept than is possible")
        return self._keep(memory, always)

    def _keep(self, memory: Mapping[str, str], always: tuple[str, ...]) -> KeepState:
        self._kept = True
        kept = {
            "version": VERSION,
            "conversation": self.conversation,
            "memory": dict(memory),
            "always": always,
        }
        return KeepState(json.dumps(kept).encode("ascii"))


def _order(kind: str, key: str, **fields: object) -> Order:
    return Order(key, wire.line(kind, **fields))


def _read(kept: bytes) -> tuple[str, dict[str, str], tuple[str, ...]]:
    """Raises ValueError."""
    try:
        fields = json.loads(kept)
        conversation = fields["conversation"]
        if fields["version"] != VERSION or not isinstance(conversation, str):
            raise ValueError
        memory = {str(name): str(value) for name, value in fields["memory"].items()}
        return conversation, memory, tuple(map(str, fields["always"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError("there is no conversation to take up again that can be read") from None
