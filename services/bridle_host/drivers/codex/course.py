"""The course of Codex's turns, its own and its sub-agents', and what is open in them.

Pure. One thread is the session's conversation. Other threads are its sub-agents: their turns belong
to the turn of ours beneath which they began, and end with it when it is interrupted (Codex itself
lets them run on). Codex names turns, so what comes late of a turn that is over is known by its
name and left out. The dialect builds on it and adds requests and notices.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from bridle_core.observations import (
    Decision,
    KeepState,
    Message,
    MessageText,
    Note,
    NoteKind,
    Steered,
    StopReason,
    Text,
    ToolEnded,
    ToolStarted,
    ToolStatus,
    Usage,
)
from bridle_host.drivers.codex import asks, items, notices, rpc
from bridle_host.drivers.codex.rpc import Fields
from bridle_host.drivers.codex.standing import (
    OPEN,
    STOPPED,
    THREADS,
    VERSION,
    Call,
    Counts,
    Kept,
    Meter,
    Standing,
    Sub,
    newest,
)
from bridle_host.drivers.lines.dialect import Began, Ended, Order, Said

#: How much live text is told at once, in characters.
LIVE = 16 * 1024

BACKGROUND = "it goes on in the background"


class Course:
    """See the module. `run`: the session's; it is part of the names that we give to messages."""

    def __init__(self, standing: Standing, run: int) -> None:
        self.now = standing
        self.run = run

    def set(self, **changes: Any) -> None:
        """Where it stands from here on."""
        self.now = replace(self.now, **changes)

    def message_name(self, what: str) -> str:
        """The name under which the agent tells of a message of ours that it has taken."""
        return f"bridle-{self.run}-{what}"

    # --- turns ---

    def turn_answered(self, number: int, answer: rpc.Answer) -> Iterator[Said]:
        """To the request for a turn."""
        now = self.now
        if now.asked != number:
            return
        if answer.error is not None:
            yield from self._settle()
            self.set(refused=answer.error)
            if not self.now.turn:
                yield from self._refuse()
            return
        turn = Fields(answer.result, "result").inner("turn")
        name = turn.id("id")
        if name == now.turn:
            # It went into a turn that the agent had begun by itself: from here on that is ours.
            root = now.root
            yield from self.close(StopReason.COMPLETED)
            yield from self._open(number, name, root)
        elif name == now.held:
            yield from self._open(number, name, now.held_root)
        elif name == now.last:
            yield from self._open(number, name, name)
            yield from self.close(StopReason.COMPLETED)
        else:
            self.set(answered=name)

    def turn_started(self, params: Fields) -> Iterator[Said]:
        turn = params.inner("turn")
        thread, name = params.id("threadId"), turn.id("id")
        root = turn.name("rootTurnId")
        now = self.now
        if thread != now.thread:
            yield from self._sub_began(thread, name, root)
            return
        if now.turn:
            yield from self.close(StopReason.FAILED, "codex began another turn instead")
        if now.asked is None or now.answered not in ("", name):
            yield from self._open(None, name, root or name)
        elif now.answered:
            yield from self._open(now.asked, name, root or name)
        else:
            # Ours, or one of its own that was quicker. The answer tells, or what happens in it.
            self.set(held=name, held_root=root or name)

    def turn_completed(self, params: Fields) -> Iterator[Said]:
        turn = params.inner("turn")
        thread, name = params.id("threadId"), turn.id("id")
        if thread != self.now.thread:
            self.set(subs=tuple(sub for sub in self.now.subs if sub.turn != name))
            return
        if name == self.now.held:
            yield from self._settle()
        if name != self.now.turn:
            return
        status, error = turn.name("status"), turn.maybe("error")
        if status == "completed":
            yield from self.close(StopReason.COMPLETED)
        elif status == "interrupted":
            yield from self.close(StopReason.INTERRUPTED)
        else:
            message = f"the turn ended as {status!r}" if error is None else notices.error_of(error)
            yield from self.close(notices.reason_of(error), message + notices.advice_of(error))

    def close(self, reason: StopReason, message: str = "") -> Iterator[Said]:
        """The open turn is over, and what was open in it."""
        now = self.now
        cut = bool(now.interrupting) or reason is StopReason.INTERRUPTED
        if not cut:
            for call in now.calls:
                if call.kind == items.COMMAND and not call.sub:
                    yield ToolEnded(call.id, ToolStatus.SUCCEEDED, message=BACKGROUND)
        for ask in now.asks:
            if not ask.answered:  # nobody can answer it any more
                yield Order(f"withdraw-{ask.id}", asks.answered(ask, Decision.DENY))
        if (used := self._used()) != now.kept:
            yield self._keep(used)
        self.set(
            turn="",
            root="",
            last=now.turn,
            interrupting="",
            calls=(),
            asks=(),
            stopped=newest(now.stopped, now.root, STOPPED) if cut else now.stopped,
            subs=tuple(sub for sub in now.subs if not cut or sub.born != now.turn),
        )
        yield Ended(reason, message)
        if self.now.refused:
            yield from self._refuse()

    def _open(self, number: int | None, name: str, root: str) -> Iterator[Said]:
        self.set(turn=name, root=root, calls=(), asks=(), interrupting="", retries=0)
        self.set(held="", held_root="", writing="")
        if number is not None:
            self.set(asked=None, answered="")
        yield Began(number)
        if not self.now.begun:
            # Before its first turn a thread can't be resumed.
            self.set(begun=True)
            yield self._keep(self._used())

    def _settle(self) -> Iterator[Said]:
        """The turn whose owner wasn't known was none of ours."""
        if self.now.held:
            yield from self._open(None, self.now.held, self.now.held_root)

    def _refuse(self) -> Iterator[Said]:
        """The turn that was asked for has failed before it began."""
        asked, why = self.now.asked, self.now.refused
        self.set(asked=None, answered="", refused="")
        if asked is not None:
            yield Began(asked)
            yield Ended(StopReason.FAILED, f"codex did not take the input: {why}")

    # --- turns of sub-agents ---

    def _sub_began(self, thread: str, name: str, root: str) -> Iterator[Said]:
        now = self.now
        beneath = bool(now.turn) and root in ("", now.root)
        if (beneath and now.interrupting) or (not beneath and root in now.stopped):
            yield interrupt_of(thread, name)
            return
        sub = Sub(thread, name, now.turn if beneath else "")
        self.set(subs=(*now.subs, sub)[-OPEN:])

    def whose(self, params: Fields) -> str | None:
        """What it belongs to: "" the open turn, else a sub-agent's turn. None: to neither."""
        thread, turn = params.name("threadId"), params.name("turnId")
        if thread == self.now.thread:
            return "" if turn and turn == self.now.turn else None
        known = any(sub.turn == turn and sub.thread == thread for sub in self.now.subs)
        return thread if known else None

    # --- what happens in them ---

    def item_started(self, params: Fields) -> Iterator[Said]:
        item = params.inner("item")
        message = item.name("clientId") if item.name("type") == "userMessage" else ""
        if self.now.held and params.name("turnId") == self.now.held:
            if message == self.message_name(f"turn-{self.now.asked}"):
                yield from self._open(self.now.asked, self.now.held, self.now.held_root)
            else:
                yield from self._settle()
        who = self.whose(params)
        if who is None:
            return
        if who == "" and item.name("type") in ("agentMessage", "userMessage"):
            # What was being written will not go on.
            if self.now.writing:
                yield Message(self.now.writing, (), partial=True)
            self.set(writing=item.id("id") if item.name("type") == "agentMessage" else "")
        steered = self.message_name("steer-")
        if message.startswith(steered):
            yield Steered(message.removeprefix(steered))
        begun = items.begun(item, who)
        if begun is None or self.call(begun[1].id) is not None:
            return
        yield begun[0]
        call = begun[1]
        self.set(calls=(*self.now.calls, call)[-OPEN:])
        if self.now.interrupting and call.kind == items.COMMAND and not who:
            self.set(leftover=newest(self.now.leftover, call.id, OPEN))

    def item_completed(self, params: Fields) -> Iterator[Said]:
        who = self.whose(params)
        if who is None:
            return
        item = params.inner("item")
        if who and not self.now.turn:
            yield from _beside(item, who)
            return
        if items.tool_of(item) is None:
            if item.name("id") == self.now.writing:
                self.set(writing="")
            yield from items.said(item, who)
            return
        call = self.call(item.id("id"))
        if call is None:
            begun = items.begun(item, who)
            assert begun is not None  # it is a tool call
            yield begun[0]
            call = begun[1]
        self.set(calls=tuple(one for one in self.now.calls if one.id != call.id))
        yield from items.ended(item, call, interrupted=bool(self.now.interrupting))

    def message_delta(self, params: Fields) -> Iterator[Said]:
        """Live text is the agent's own only: its sub-agents' messages come whole."""
        if self.whose(params) == "":
            name, text = params.id("itemId"), params.text("delta")
            for start in range(0, len(text), LIVE):
                yield MessageText(name, text[start : start + LIVE])

    def output_delta(self, params: Fields) -> Iterator[Said]:
        call = self.call(params.id("itemId"))
        if call is None or self.whose(params) is None:
            return
        text = params.text("delta")
        more = replace(
            call, told=call.told + len(text), tail=(call.tail + text[-items.TAIL :])[-items.TAIL :]
        )
        self.set(calls=tuple(more if one is call else one for one in self.now.calls))
        yield from items.output(call.id, text)

    def progress(self, params: Fields) -> Iterator[Said]:
        call = self.call(params.id("itemId"))
        if call is not None and self.whose(params) is not None:
            yield from items.output(call.id, params.text("message") + "\n")

    def typed(self, params: Fields) -> Iterator[Said]:
        """Something was written to a command that runs: a call that is over at once."""
        who, stdin = self.whose(params), params.text("stdin")
        if who is None or not stdin:
            return
        self.set(written=self.now.written + 1)
        name = f"{params.id('itemId')}-stdin-{self.now.written}"
        arguments = {"process": params.name("processId"), "stdin": stdin}
        yield ToolStarted(name, "write_stdin", json.dumps(arguments), sub_agent=who)
        yield ToolEnded(name, ToolStatus.SUCCEEDED)

    def call(self, name: str) -> Call | None:
        """The open tool call of that id."""
        return next((call for call in self.now.calls if call.id == name), None)

    # --- usage ---

    def usage(self, params: Fields) -> Iterator[Said]:
        thread, usage = params.id("threadId"), params.inner("tokenUsage")
        total = notices.counts_of(usage.inner("total"))
        last = notices.counts_of(usage.inner("last"))
        meters = self.now.meters
        known = next((meter for meter in meters if meter.thread == thread), None)
        if known is None:
            # A thread counts from its very beginning. What it has used before its first turn in
            # this process was used in another one.
            earlier = thread == self.now.thread and not self.now.begun
            known = Meter(thread, total if earlier else total.minus(last), total)
        rest = [meter for meter in meters if meter.thread != thread]
        while len(rest) >= THREADS:
            oldest = rest.pop(0)
            self.set(spent=self.now.spent.plus(oldest.total.minus(oldest.base)))
        self.set(meters=(*rest, replace(known, total=total)))
        if self.now.turn:
            used = self._used()
            yield Usage(used.input, used.output, used.cached, model=self.now.model)

    def _used(self) -> Counts:
        """In this run, by all threads."""
        used = self.now.spent
        for meter in self.now.meters:
            used = used.plus(meter.total.minus(meter.base))
        return used

    def _keep(self, used: Counts) -> KeepState:
        self.set(kept=used)
        return KeepState(Kept(VERSION, self.now.thread, self.run, used).dump())


def interrupt_of(thread: str, turn: str) -> Order:
    """Of a sub-agent's turn."""
    name = f"interrupt-{turn}"
    params = {"threadId": thread, "turnId": turn}
    return Order(name, rpc.request(name, "turn/interrupt", params))


def _beside(item: Fields, sub: str) -> Iterator[Said]:
    """What a sub-agent says while no turn is open: it belongs to none, and is worth a note."""
    for told in items.said(item, sub) if items.tool_of(item) is None else ():
        if isinstance(told, Message):
            text = "".join(part.text for part in told.content if isinstance(part, Text))
            yield Note(NoteKind.AGENT_LOG, f"sub-agent {sub}: {text}"[: notices.SHOWN])
