"""The course of an agent's turns: from the prompt to its answer, and what is said in between.

Pure. A part of the driver `acp`'s dialect (which tells what the protocol leaves open), and used by
that only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from acp import schema

from bridle_core.observations import (
    ApprovalAsked,
    ApprovalWithdrawn,
    Decision,
    KeepState,
    Note,
    NoteKind,
    Plan,
    PlanStep,
    StopReason,
    ToolEnded,
    ToolStatus,
    Usage,
)
from bridle_host.drivers.acp import leave, wire
from bridle_host.drivers.acp.calls import Calls, arguments_of, shown_of
from bridle_host.drivers.acp.standing import (
    KEPT_VERSION,
    Kept,
    Stage,
    Standing,
    Used,
    named,
)
from bridle_host.drivers.acp.words import Words
from bridle_host.drivers.lines.dialect import Began, Ended, Order, Said, UnreadableError

#: The name of a turn that nobody asked for.
OWN = "own"
#: What leave is asked for, in characters.
REASON = 8 * 1024
#: The largest count of anything; a number above it is none.
MOST = 2**53

_REASONS: Mapping[str, StopReason] = {
    "end_turn": StopReason.COMPLETED,
    "max_tokens": StopReason.LIMIT_REACHED,
    "max_turn_requests": StopReason.LIMIT_REACHED,
    "refusal": StopReason.REFUSED,
    "cancelled": StopReason.INTERRUPTED,
}
_UNHEARD = "the message of a denial is no part of the agent's protocol: it may not have seen it"
_UNASKED = "the agent works outside of any turn, and would not tell its end: it is not shown"
_BY_ITSELF = "the agent cancelled its turn by itself"

#: Updates that are told to those who draw a window, and to nobody else.
_IGNORED = (
    schema.UserMessageChunk,
    schema.AvailableCommandsUpdate,
    schema.ConfigOptionUpdate,
    schema.SessionInfoUpdate,
)


class Course:
    """See the module. prefix: for names that have to be the session's own."""

    def __init__(self, at: Standing, run: int, serial: int) -> None:
        self._at = at
        self._run = run
        self._prefix = f"{run}-{serial}"
        self.words = Words(at, f"m-{self._prefix}")
        self.calls = Calls(at)
        self.leaves = leave.Leaves(at)

    def standing(self) -> Standing:
        """With all that is open."""
        return replace(
            self._at,
            lanes=self.words.lanes,
            calls=self.calls.open,
            over=self.calls.over,
            leaves=self.leaves.all,
        )

    # --- begin and end ---

    def began(self, turn: int) -> Iterator[Said]:
        """The prompt of this turn was read: once for each."""
        at = self._at
        if at.asked != turn:
            return
        if at.turn == OWN:
            yield from self.end(StopReason.COMPLETED)
        at.asked, at.turn, at.interrupted = 0, f"turn-{turn}", False
        yield Began(turn)
        if not at.kept:
            yield self._keep()
        yield from self.notes()

    def _begun(self) -> Iterator[Said]:
        """Something of a turn was said: is one open? At the end `turn` is "" if not."""
        at = self._at
        if at.turn:
            return
        if at.asked:
            yield from self.began(at.asked)
        elif at.stage is not Stage.UP:
            at.replayed = True
        elif at.deaf:
            if at.late:
                # Once: its key says what it is about.
                yield self.cancel(f"cancel-again-{at.late}")
        elif at.meters:
            at.turn, at.interrupted = OWN, False
            yield Began(None)
        else:
            # Its end would be told by nothing, and what is sent would wait for it for ever.
            at.deaf = True
            yield Note(NoteKind.AGENT_LOG, _UNASKED)

    def end(self, reason: StopReason, message: str = "") -> Iterator[Said]:
        """The open turn is over, and with it all that is open in it."""
        at = self._at
        by_itself = reason in (StopReason.COMPLETED, StopReason.LIMIT_REACHED, StopReason.REFUSED)
        yield from self.calls.settle()
        yield from self.words.end_all(partial=not by_itself)
        for call in self.calls.open:
            if call.denied and call.told:
                yield ToolEnded(call.id, ToolStatus.DENIED)
        yield from self.notes()
        yield Ended(reason, message)
        at.deaf, at.late = at.interrupted, at.turn if at.interrupted else ""
        at.turn, at.interrupted = "", False
        self.words.forget()
        self.calls.forget()
        self.leaves.forget()

    def answered(self, turn: int, answer: wire.Answer, why: str) -> Iterator[Said]:
        """The prompt's answer. why: of a failure, for people."""
        at = self._at
        yield from self.began(turn)
        if at.turn != f"turn-{turn}":
            return
        if answer.failure is not None:
            yield from self.end(StopReason.FAILED, why)
            return
        result = answer.result if isinstance(answer.result, Mapping) else {}
        word = result.get("stopReason")
        yield from self._used(result.get("usage"))
        if word == "cancelled" and not at.interrupted:
            yield from self.end(StopReason.INTERRUPTED, _BY_ITSELF)
        elif isinstance(word, str) and word in _REASONS:
            message = word if _REASONS[word] is StopReason.LIMIT_REACHED else ""
            yield from self.end(_REASONS[word], message)
        else:
            shown = word[:100] if isinstance(word, str) else "no reason"
            yield from self.end(StopReason.COMPLETED, f"the agent's reason to end: {shown}")

    def cancel(self, key: str) -> Order:
        """Ask the agent to end what it does."""
        params = schema.CancelNotification(session_id=self._at.session)
        return Order(key, wire.tell("session/cancel", params))

    def notes(self) -> Iterator[Said]:
        """What was to be said with the next line."""
        notes, self._at.notes = self._at.notes, ()
        for note in notes:
            yield Note(NoteKind.AGENT_LOG, note)

    def _keep(self) -> KeepState:
        at = self._at
        at.kept = True
        kept = Kept(KEPT_VERSION, at.session, self._run, at.before.plus(at.used))
        return KeepState(kept.dump())

    def _used(self, raw: object) -> Iterator[Said]:
        """What a turn has used, at its end. Of what is wrong in it nothing counts."""
        at = self._at
        told = raw if isinstance(raw, Mapping) else {}
        counts = Used(
            _count(told, "inputTokens"),
            _count(told, "outputTokens"),
            _count(told, "cachedReadTokens"),
        )
        if counts == Used() and at.used.cost is None:
            return
        at.used = at.used.plus(counts)
        total = at.before.plus(at.used)
        yield Usage(total.input, total.output, total.cached, total.cost, at.model)
        yield self._keep()

    # --- updates ---

    def update(self, raw: object) -> Iterator[Said]:
        """Something of the agent's work. Raises UnreadableError."""
        told = wire.value(schema.SessionNotification, raw)
        update: Any = told.update
        if isinstance(update, _IGNORED):
            if self._at.stage is not Stage.UP:
                self._at.replayed |= isinstance(update, schema.UserMessageChunk)
            return
        if isinstance(update, schema.UsageUpdate):
            yield from self._metered(update)
            return
        yield from self._begun()
        if not self._at.turn:
            return
        yield from self.notes()
        if isinstance(update, schema.ToolCallStart | schema.ToolCallProgress):
            yield from self._called(update, self._sub(told, update))
            return
        yield from self.calls.settle()
        sub = self._sub(told, update)
        match update:
            case schema.AgentMessageChunk():
                yield from self.words.piece(update, thought=False, sub=sub)
            case schema.AgentThoughtChunk():
                yield from self.words.piece(update, thought=True, sub=sub)
            case schema.CurrentModeUpdate():
                mode = update.current_mode_id[:100]
                yield Note(NoteKind.AGENT_LOG, f"the agent's mode is {mode} now")
            case _:
                yield from self.words.end(sub)
                yield Plan(tuple(_steps(update)))

    def _called(
        self, update: schema.ToolCallStart | schema.ToolCallProgress, sub: str
    ) -> Iterator[Said]:
        yield from self.words.end(sub)
        yield from self.calls.settle(but=named(update.tool_call_id))
        yield from self.calls.mention(update, sub)

    def _sub(self, told: schema.SessionNotification, update: Any) -> str:
        """The sub-agent that it is of: a call of the agent's, or a conversation beside its own."""
        if told.session_id != self._at.session:
            return named(told.session_id)
        meta = (update.field_meta or {}).get("claudeCode")
        parent = meta.get("parentToolUseId") if isinstance(meta, Mapping) else None
        return named(parent) if isinstance(parent, str) else ""

    def _metered(self, update: schema.UsageUpdate) -> Iterator[Said]:
        """What the conversation has cost so far. It is told at the end of a turn."""
        at = self._at
        model = (update.field_meta or {}).get("_claude/model")
        if isinstance(model, str) and model:
            at.model = model[:100]
        cost = update.cost
        if cost is None:
            return
        at.meters = True
        if cost.currency == "USD" and 0 <= cost.amount < MOST / 1_000_000:
            at.used = replace(at.used, cost=round(cost.amount * 1_000_000))
        if at.turn == OWN:
            yield from self._used({})
            yield from self.end(StopReason.COMPLETED)

    # --- leave ---

    def asked(self, request: wire.Id, raw: object) -> Iterator[Said]:
        """The agent asks for leave; where nobody is to answer, it gets its answer at once."""
        try:
            asks = wire.value(schema.RequestPermissionRequest, raw)
        except UnreadableError as error:
            yield leave.cancelled(request)
            yield Note(NoteKind.UNPARSED, f"what the agent asks leave for can't be read: {error}")
            return
        yield from self._begun()
        at = self._at
        if not at.turn or at.interrupted:
            yield leave.cancelled(request)
            return
        sub = "" if asks.session_id == at.session else named(asks.session_id)
        call = asks.tool_call
        name = named(call.tool_call_id)
        yield from self.words.end(sub)
        yield from self.calls.settle(but=name)
        yield from self.calls.asked(call, sub)
        approval = f"leave-{self._prefix}-{named(str(request))}"
        if not self.leaves.ask(approval, request, name, asks.options):
            yield leave.cancelled(request)
            yield Note(NoteKind.TRUNCATED, "the agent asks for more at once than is kept in mind")
            return
        reason = "\n".join(filter(None, (call.title, shown_of(call))))
        yield ApprovalAsked(
            approval, self.calls.tool(name), arguments_of(call), reason[:REASON], name
        )

    def withdrawn(self, raw: object) -> Iterator[Said]:
        """The agent takes a request of its own back."""
        request = raw.get("requestId") if isinstance(raw, Mapping) else None
        if not isinstance(request, int | str):
            raise UnreadableError("it takes nothing back that was asked")
        taken = self.leaves.withdraw(request)
        if taken is not None:
            yield ApprovalWithdrawn(taken.id)
            yield leave.cancelled(request)

    def respond(self, approval_id: str, decision: Decision, message: str) -> Iterable[Order]:
        """See `Dialect`."""
        asked = self.leaves.answered(approval_id, decision)
        if asked is None:
            return ()
        if decision is Decision.DENY:
            self.calls.deny(asked.call)
            if message and not asked.answer:
                self._at.notes = (_UNHEARD,)
        return (leave.answer(asked, decision, message),)


def _count(told: Mapping[str, object], name: str) -> int:
    count = told.get(name)
    if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count < MOST:
        return 0
    return count


def _steps(update: Any) -> Iterator[PlanStep]:
    plan = getattr(update, "plan", update)
    if isinstance(plan, schema.PlanUpdateMarkdown):
        yield PlanStep(plan.content)
    elif isinstance(plan, schema.PlanUpdateFile):
        yield PlanStep(str(plan.uri))
    for entry in getattr(plan, "entries", ()):
        yield PlanStep(entry.content, entry.status.upper())
