"""The verdict on a soak: everything that was said is held against everything that was done.

    account = judge(traffic, logs, watchers)      # adds what is wrong to world.wrong

The agents' ledgers are the truth about what ran and what was printed; the logs as they are read at
the end are what Bridle says. In between stand the receipts and what the watchers were told. Pure,
but for reading the ledgers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from bridle.v1 import event_pb2, input_pb2, receipt_pb2, session_pb2
from tests.robustness.soak.agents import KEY, Ledger, read_ledger
from tests.robustness.soak.traffic import Op, Subject, Traffic
from tests.robustness.soak.watchers import Watcher
from tests.support.event_log import Broken, Checked, Log, Promise, check_log, validate

RAN = receipt_pb2.OUTCOME_STATE_RAN
NOT_RUN = receipt_pb2.OUTCOME_STATE_NOT_RUN
UNKNOWN = receipt_pb2.OUTCOME_STATE_UNKNOWN
SENDS = ("send", "steer", "now")

#: Promises whose breach is an event that is lost, repeated or out of order.
LOST = {Promise.RELIABLE, Promise.RESUMABLE, Promise.BOOKMARKABLE, Promise.COMPLETE}
REPEATED = {Promise.UNIQUE}


@dataclass
class Account:
    """The figures of a soak."""

    events: int = 0
    lost: int = 0
    repeated: int = 0
    reordered: int = 0
    ran_twice: int = 0
    unaccounted: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    told: Checked = field(default_factory=Checked)
    wrong: list[str] = field(default_factory=list)

    def complain(self, kind: str, text: str) -> None:
        """Counts it under `kind`, a figure's name, or under none."""
        if kind:
            setattr(self, kind, getattr(self, kind) + 1)
        self.wrong.append(f"{kind or 'wrong'}: {text}")


def judge(traffic: Traffic, logs: dict[str, Log], watchers: Iterable[Watcher]) -> Account:
    """Looks at everything; `logs` by session id."""
    account = Account()
    for subject in traffic.subjects:
        ledger = read_ledger(traffic.world.work(subject.slug) / "ledger", subject.agent)
        ops = [op for op in traffic.ops if op.subject is subject]
        log = logs[subject.session_id]
        account.events += len(log.events)
        _Session(account, traffic, subject, ops, log, ledger).judge()
    for watcher in watchers:
        _watcher(account, watcher, logs)
    return account


def _watcher(account: Account, watcher: Watcher, logs: dict[str, Log]) -> None:
    for recorder in watcher.recorders:
        for session_id in recorder.histories:
            try:
                account.told += validate(logs[session_id], recorder)
            except Broken as broken:
                kind = "lost" if broken.promise in LOST else "reordered"
                kind = "repeated" if broken.promise in REPEATED else kind
                account.complain(kind, f"watcher {watcher.number}, {session_id}: {broken}")


@dataclass
class _Session:
    """One session's part of it."""

    account: Account
    traffic: Traffic
    subject: Subject
    ops: list[Op]
    log: Log
    ledger: Ledger

    def complain(self, kind: str, text: str) -> None:
        self.account.complain(kind, f"{self.subject.slug} ({self.subject.agent}): {text}")

    def judge(self) -> None:
        events = self.log.events
        #: Whether something of it was killed by a fault, or by somebody's Kill: what was under way
        #: then may be UNKNOWN, and its last lines may be lost with it.
        self.faulted = any(
            each.session_id == self.subject.session_id for each in self.traffic.world.killed
        )
        self.kills = any(op.verb == "kill" and not op.refused for op in self.ops)
        self.escalated = any(
            event.WhichOneof("kind") == "diagnostic"
            and event.diagnostic.kind == event_pb2.DIAGNOSTIC_KIND_ESCALATED
            for event in events
        )
        self.turns = {
            event.turn: event.turn_ended.stop_reason
            for event in events
            if event.WhichOneof("kind") == "turn_ended"
        }
        try:
            check_log(self.log)
        except Broken as broken:
            self.complain("reordered", str(broken))
        self._output()
        self._processes()
        self._runs()
        self._ends()
        for op in self.ops:
            self._op(op)

    def _processes(self) -> None:
        """Each run has one agent, whatever its host went through, unless an interrupt killed it."""
        for event in self.log.events:
            if event.WhichOneof("kind") != "process_started":
                continue
            if event.process_started.replacement and not self.escalated:
                self.complain("", f"the agent of run {event.run} was replaced for no reason")
        runs = [
            event.run
            for event in self.log.events
            if event.WhichOneof("kind") == "process_started"
            and not event.process_started.replacement
        ]
        if len(runs) != len(set(runs)):
            self.complain("", "a run has two agents")

    # --- what was printed ----------------------------------------------------------------------

    def _output(self) -> None:
        told = list(printed(self.log.events))
        truth = self.ledger.printed
        place = {line: number for number, line in enumerate(truth)}
        for line, times in Counter(told).items():
            if times > 1:
                self.complain("repeated", f"{line!r} stands {times} times in the log")
            if line not in place:
                self.complain("", f"{line!r} stands in the log, and no agent printed it")
        known = [place[line] for line in told if line in place]
        if known != sorted(known):
            self.complain("reordered", "what was printed stands in another order in the log")
        missing = set(truth) - set(told)
        if missing:
            self._missing(missing)

    def _missing(self, missing: set[str]) -> None:
        """Lines of the ledger that the log lacks: only the last of what was cut off may be."""
        cut = (
            event_pb2.STOP_REASON_INTERRUPTED,
            event_pb2.STOP_REASON_AGENT_LOST,
            event_pb2.STOP_REASON_KILLED,
        )
        turn_of = dict(self._consumed())
        by_key: dict[str, list[str]] = {}
        for line in self.ledger.printed:
            by_key.setdefault(line.partition("/")[0], []).append(line)
        for key, lines in by_key.items():
            gone = [line for line in lines if line in missing]
            if not gone:
                continue
            reason = self.turns.get(turn_of.get(key, 0))
            # A line is noted before it is printed: who is ended in between has printed one less.
            most = len(lines) if self.faulted or self.kills or self.escalated else 1
            if reason in cut and gone == lines[-len(gone) :] and len(gone) <= most:
                continue
            named = event_pb2.StopReason.Name(reason) if reason is not None else "no turn"
            for line in gone:
                self.complain("lost", f"{line!r} was printed and is not in the log ({named})")

    # --- what ran ------------------------------------------------------------------------------

    def _queued(self) -> dict[str, tuple[str, int, int]]:
        """input id → its key, its mode, its sequence."""
        return {
            event.input_queued.input_id: (
                _key(event.input_queued.content[0].text),
                event.input_queued.mode,
                event.sequence,
            )
            for event in self.log.events
            if event.WhichOneof("kind") == "input_queued"
        }

    def _consumed(self) -> list[tuple[str, int]]:
        """Keys and turns, in the order of the log."""
        queued = self._queued()
        return [
            (queued[event.input_consumed.input_id][0], event.turn)
            for event in self.log.events
            if event.WhichOneof("kind") == "input_consumed"
        ]

    def _runs(self) -> None:
        for key, times in Counter(self.ledger.got).items():
            if times > 1:
                self.complain("ran_twice", f"{key} was got {times} times")
        consumed = [key for key, _ in self._consumed()]
        both = set(consumed) & set(self.ledger.got)
        if [k for k in consumed if k in both] != [k for k in self.ledger.got if k in both]:
            self.complain("reordered", "inputs ran in another order than the log says")
        plain = {
            key: sequence
            for key, mode, sequence in self._queued().values()
            if mode == input_pb2.INPUT_MODE_QUEUE
        }
        order = [plain[key] for key in consumed if key in plain]
        if order != sorted(order):
            self.complain("reordered", "inputs did not run in the order of their acceptance")

    # --- how runs ended ------------------------------------------------------------------------

    def _ends(self) -> None:
        allowed = {
            session_pb2.END_REASON_STOP_REQUESTED: any(op.verb == "stop" for op in self.ops),
            session_pb2.END_REASON_KILL_REQUESTED: any(op.verb == "kill" for op in self.ops),
            session_pb2.END_REASON_AGENT_LOST: self.faulted,
            # A shim that was killed while its host was away.
            session_pb2.END_REASON_HOST_STOPPED: self.faulted,
        }
        lost = 0
        for event in self.log.events:
            if event.WhichOneof("kind") != "session_ended":
                continue
            ended = event.session_ended
            lost += ended.reason in (
                session_pb2.END_REASON_AGENT_LOST,
                session_pb2.END_REASON_HOST_STOPPED,
            )
            if not allowed.get(ended.reason, False) or not ended.verified:
                named = session_pb2.EndReason.Name(ended.reason)
                self.complain(
                    "", f"run {event.run} ended by nobody's doing: {named} {ended.message!r}"
                )
        faults = sum(
            each.session_id == self.subject.session_id for each in self.traffic.world.killed
        )
        if lost > faults:
            self.complain("", f"{lost} runs lost their agent, and {faults} agents were killed")

    # --- what was answered ---------------------------------------------------------------------

    def _op(self, op: Op) -> None:
        final = op.final
        if final is None:
            self.account.outcomes["refused" if op.refused else "unknown to control"] += 1
            if op.receipt is not None:
                self.complain("unaccounted", f"op {op.number} {op.verb} was acknowledged, and gone")
            if op.key in self.ledger.got:
                self.complain("unaccounted", f"{op.key} ran, and control does not know it")
            return
        state = receipt_pb2.OutcomeState.Name(final.outcome.state).removeprefix("OUTCOME_STATE_")
        self.account.outcomes[state] += 1
        if op.receipt is not None and op.receipt.command_id != final.command_id:
            self.complain("unaccounted", f"op {op.number} {op.verb} has two receipts")
        told = op.receipt.outcome.state if op.receipt is not None else 0
        if told in (RAN, NOT_RUN) and final.outcome.state != told:
            self.complain("unaccounted", f"op {op.number} {op.verb}: its outcome changed: {state}")
        if final.outcome.state not in (RAN, NOT_RUN, UNKNOWN):
            self.complain("unaccounted", f"op {op.number} {op.verb} {op.key} is still {state}")
        elif final.outcome.state == UNKNOWN and not (self.faulted or self.kills or self.escalated):
            reason = receipt_pb2.OutcomeReason.Name(final.outcome.reason)
            self.complain("unaccounted", f"op {op.number} {op.verb} is UNKNOWN: {reason}")
        elif op.verb in SENDS:
            self._send(op, final)
        elif op.verb == "interrupt":
            self._interrupt(op, final)

    def _send(self, op: Op, final: receipt_pb2.Receipt) -> None:
        ran = op.key in self.ledger.got
        if final.outcome.state == NOT_RUN and ran:
            self.complain("unaccounted", f"{op.key} ran, and its receipt says that it did not")
        if final.outcome.state == RAN and not ran:
            reason = self.turns.get(final.outcome.turn)
            # The shell's script may be ended before it has noted anything.
            cut = reason != event_pb2.STOP_REASON_COMPLETED
            if (self.subject.agent == "scripted" and not self.faulted) or not cut:
                self.complain("unaccounted", f"{op.key} did not run, and its receipt says so")
        consumed = dict(self._consumed())
        if final.outcome.state == RAN and consumed.get(op.key) != final.outcome.turn:
            self.complain("unaccounted", f"{op.key}: the log knows of another turn")

    def _interrupt(self, op: Op, final: receipt_pb2.Receipt) -> None:
        outcome = final.outcome
        if outcome.reason == receipt_pb2.OUTCOME_REASON_TURN_INTERRUPTED:
            reason = self.turns.get(outcome.turn)
            if reason != event_pb2.STOP_REASON_INTERRUPTED:
                self.complain("unaccounted", f"op {op.number} interrupted turn {outcome.turn}?")
        elif outcome.reason == receipt_pb2.OUTCOME_REASON_INPUT_CANCELLED:
            cancelled = {
                event.input_cancelled.input_id
                for event in self.log.events
                if event.WhichOneof("kind") == "input_cancelled"
            }
            if outcome.input_id not in cancelled:
                self.complain("unaccounted", f"op {op.number} cancelled {outcome.input_id}?")


def printed(events: Sequence[event_pb2.Event]) -> Iterable[str]:
    """The lines that agents printed, as the log tells them, in order."""
    rest: dict[str, str] = {}
    for event in events:
        kind = event.WhichOneof("kind")
        if kind == "agent_message":
            yield "".join(piece.text for piece in event.agent_message.content)
        elif kind == "agent_thought":
            yield event.agent_thought.text
        elif kind == "tool_call_output":
            # An event's text may end within a line.
            output = event.tool_call_output
            text = rest.pop(output.tool_call_id, "") + (
                output.text or output.data.decode(errors="replace")
            )
            *lines, last = text.split("\n")
            yield from lines
            if last:
                rest[output.tool_call_id] = last
        elif kind == "tool_call_ended" and (
            last := rest.pop(event.tool_call_ended.tool_call_id, "")
        ):
            yield last


def _key(text: str) -> str:
    found = KEY.search(text)
    return found[0] if found else ""
