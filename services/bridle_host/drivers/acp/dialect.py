"""The Agent Client Protocol as pure functions over lines.

What the protocol leaves open, and what is done about it here:

- Nothing says that a turn began. Behind each prompt goes a question that no agent knows (`BEGAN`):
  its refusal says that the prompt was read. What the turn itself says first will do, too.
- Updates name no turn. Behind the answer to a prompt there is nothing of it any more by the
  protocol; after an interrupt, what comes still is left out until the next prompt, and the agent is
  told once more to cancel: some answer first, and go on.
- Turns of the agent's own have no begin and no end. Of an agent that tells the cost of each turn at
  its end, the first word outside of a prompt begins one; else a note says that there was something.
- A denial has no room for a reason: the message goes beside it, for agents that look for one.

Made for each process of an agent by the factory; used by `LineDriver`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from acp import schema

from bridle_core.observations import Content, Decision, Note, NoteKind, Steered, StopReason
from bridle_host.drivers.acp import launch, leave, wire
from bridle_host.drivers.acp.course import OWN, Course
from bridle_host.drivers.acp.opening import INITIALIZE, SESSION, Opening
from bridle_host.drivers.acp.standing import Kept, Stage, Standing
from bridle_host.drivers.acp.words import blocks_of
from bridle_host.drivers.lines.dialect import Beginning, Launch, Order, Said, UnreadableError

BEGAN = "_bridle/began"
STEERING = "_session/steering"
#: Where there is no turn to steer, nothing is to happen.
_NO_TURN = {"steering": {"idleBehavior": "promptRequired"}}
_NO_STEERING = "this agent takes no word into a turn that is on; it gets it as the next turn"

#: What the protocol has a client do, and this one leaves to the agent: it is on the same machine.
_NOT_SERVED = ("fs/", "terminal/", "elicitation/", "mcp/", "_")


class AcpDialect:
    """See `Dialect`."""

    line_limit = wire.LINE
    quiet = 0.25
    quiet_limit = 2.0
    seedable = True

    def __init__(self, argv: Sequence[str], beginning: Beginning, standing: bytes | None) -> None:
        """Raises ValueError with a line for people."""
        kept = Kept.load(beginning.kept) if beginning.kept else None
        if beginning.native and kept is None:
            raise ValueError("there is no conversation to take up again")
        self._argv = argv
        self._environment = beginning.environment
        self._at = Standing.load(standing or b"")
        if not standing and kept is not None and kept.run == beginning.run:
            self._at.before = kept.used
        self._opening = Opening(self._at, beginning, kept)
        self._course = Course(self._at, beginning.run, beginning.serial)

    # --- what is ordered ---

    @property
    def unasked(self) -> bytes:
        at = self._at
        quiet = at.stage is not Stage.UP or at.turn or at.asked or at.deaf
        return b"" if quiet else b'"session/'

    @property
    def conversation(self) -> str:
        return self._at.session or self._opening.native

    def launch(self) -> Launch:
        return launch.launch(self._argv, self._environment)

    def greet(self) -> Iterable[Order]:
        return self._opening.greet()

    def begin(self, turn: int, content: Sequence[Content]) -> Iterable[Order]:
        at = self._at
        name = f"turn-{turn}"
        blocks, missing = blocks_of(content, images=at.images)
        if at.turn != name:
            at.asked, at.deaf, at.late = turn, False, ""
            at.notes = tuple(missing[:4])
        prompt = schema.PromptRequest(session_id=at.session, prompt=blocks)
        # In one order: whoever has the one has the other.
        lines = wire.request(name, "session/prompt", prompt) + wire.request(f"began-{turn}", BEGAN)
        return (Order(name, lines),)

    def steer(self, turn: str, input_id: str, content: Sequence[Content]) -> Iterable[Order]:
        at = self._at
        if not at.turn or at.interrupted:
            return ()
        if not at.steers:
            at.notes = (_NO_STEERING,)
            return ()
        blocks, _ = blocks_of(content, images=at.images)
        steering = schema.PromptRequest(session_id=at.session, prompt=blocks, field_meta=_NO_TURN)
        key = f"steer-{input_id}"
        return (Order(key, wire.request(key, STEERING, steering)),)

    def interrupt(self, turn: str, *, include_background: bool) -> Iterable[Order]:
        if not self._at.turn:
            return
        self._at.interrupted = True
        yield self._course.cancel(f"cancel-{turn}")
        # Some agents don't end before what they asked is answered.
        yield from self._course.leaves.void()
        if self._at.turn == OWN:
            # No prompt of ours will be answered; this is, once the agent has read the above.
            key = f"over-{turn}"
            yield Order(key, wire.request(key, BEGAN))

    def respond(
        self, turn: str, approval_id: str, decision: Decision, message: str
    ) -> Iterable[Order]:
        return self._course.respond(approval_id, decision, message)

    def stop(self) -> Iterable[Order]:
        # It ends when its input does, or is ended: the protocol has no word for it.
        return ()

    def standing(self) -> bytes:
        return self._course.standing().dump()

    # --- what is said ---

    def read(self, line: bytes) -> Iterable[Said]:
        said = wire.read(line)
        match said:
            case wire.Answer():
                return list(self._answered(said))
            case wire.Asked():
                return list(self._asked(said))
        return list(self._told(said))

    def _answered(self, answer: wire.Answer) -> Iterator[Said]:
        kind, _, about = answer.id.partition("-")
        course = self._course
        if answer.id == INITIALIZE:
            yield from self._opening.initialized(answer)
        elif answer.id == SESSION:
            yield from self._opening.opened(answer)
        elif kind == "turn" and about.isdecimal():
            why = self._opening.explained(answer.failure) if answer.failure is not None else ""
            yield from course.answered(int(about), answer, why)
        elif kind == "began" and about.isdecimal():
            yield from course.began(int(about))
        elif kind == "over":
            if self._at.turn == OWN and self._at.interrupted:
                yield from course.end(StopReason.INTERRUPTED)
        elif kind == "steer":
            yield from self._steered(about, answer)
        else:
            raise UnreadableError("it answers nothing that was asked")

    def _steered(self, input_id: str, answer: wire.Answer) -> Iterator[Said]:
        result: Any = answer.result
        outcome = result.get("outcome") if isinstance(result, dict) else None
        if answer.failure is None and outcome == "injected" and self._at.turn:
            yield Steered(input_id)

    def _asked(self, asked: wire.Asked) -> Iterator[Said]:
        if asked.method == "session/request_permission":
            yield from self._course.asked(asked.id, asked.params)
            return
        yield leave.order(asked.id, wire.refuse(asked.id, asked.method))
        if not asked.method.startswith(_NOT_SERVED):
            text = f"the agent asks for what is not there: {asked.method[:100]}"
            yield Note(NoteKind.UNPARSED, text)

    def _told(self, told: wire.Told) -> Iterator[Said]:
        if told.method == "session/update":
            yield from self._course.update(told.params)
        elif told.method == "$/cancel_request":
            yield from self._course.withdrawn(told.params)
        elif not told.method.startswith(_NOT_SERVED):
            raise UnreadableError(f"it tells what is not known: {told.method[:100]}")
