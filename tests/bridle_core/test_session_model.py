"""The session machine and its queue under everything that a careless driver and busy callers do.

Hypothesis plays both; what must always hold is checked at every step, and at the end of every run.
"""

from __future__ import annotations

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bridle_core.commands import (
    Cancel,
    Command,
    Deliver,
    Interrupt,
    Kill,
    Release,
    Resolve,
    RunSpec,
    Stop,
    Update,
)
from bridle_core.effects import (
    Answer,
    Closed,
    Effect,
    Emit,
    InputCancelled,
    InputConsumed,
    InterruptTurn,
    KillAgent,
    PhaseChanged,
    SendTurn,
    SessionEnded,
    StopAgent,
    TurnEnded,
    VerifyGone,
)
from bridle_core.observations import (
    ApprovalAsked,
    ApprovalWithdrawn,
    Capability,
    Decision,
    Message,
    MessageText,
    Note,
    NoteKind,
    Observation,
    ProcessGone,
    ProcessUp,
    ResumeMode,
    StartFailed,
    Steered,
    StopReason,
    Text,
    ToolEnded,
    ToolOutput,
    ToolStarted,
    ToolStatus,
    TurnBegan,
    TurnOver,
)
from bridle_core.phases import (
    ENDED,
    AfterInterrupt,
    ApprovalPolicy,
    ConsumePolicy,
    InputMode,
    Phase,
    Policy,
    QueueState,
)
from bridle_core.session import RunRecord
from tests.bridle_core.session_support import Run

NAMES = st.sampled_from(["a", "b", "c"])
SECONDS = st.sampled_from([0.0, 1.0, 7.0, 30.0])
GRACE = st.none() | SECONDS
AFTER = st.none() | st.sampled_from(AfterInterrupt)
#: How an agent that nobody killed says that a turn is over.
REASONS = [StopReason.COMPLETED, StopReason.INTERRUPTED, StopReason.FAILED, StopReason.REFUSED]

POLICIES = st.builds(
    Policy,
    after_interrupt=st.sampled_from(AfterInterrupt),
    consume=st.sampled_from(ConsumePolicy),
    approval=st.sampled_from(ApprovalPolicy),
    start_timeout=SECONDS,
    turn_timeout=SECONDS,
    approval_timeout=SECONDS,
    input_ttl=SECONDS,
    idle_ttl=SECONDS,
    interrupt_grace=SECONDS,
)

CONTENTS: st.SearchStrategy[Observation] = st.one_of(
    st.builds(Message, NAMES, st.sampled_from([(Text("x"),), ()])),
    st.builds(MessageText, NAMES, st.just("x")),
    st.builds(ToolStarted, NAMES, st.just("bash")),
    st.builds(ToolOutput, NAMES, st.just(b"x")),
    st.builds(ToolEnded, NAMES, st.sampled_from(ToolStatus)),
    st.builds(ApprovalAsked, NAMES, st.just("bash")),
    st.builds(ApprovalWithdrawn, NAMES),
    st.builds(Note, st.sampled_from(NoteKind), st.just("x")),
)


class SessionMachine(RuleBasedStateMachine):
    """See the module."""

    @initialize(
        policy=POLICIES,
        steers=st.booleans(),
        queue_state=st.sampled_from(QueueState),
        resume=st.none() | st.sampled_from(ResumeMode),
        last_turn=st.integers(0, 3),
    )
    def open(
        self,
        policy: Policy,
        steers: bool,
        queue_state: QueueState,
        resume: ResumeMode | None,
        last_turn: int,
    ) -> None:
        capabilities = frozenset({Capability.STEER} if steers else ())
        self.run = Run(
            RunSpec(
                "start",
                "fake",
                capabilities=capabilities,
                policy=policy,
                queue_state=queue_state,
                resume=resume,
                last_turn=last_turn,
            )
        )
        self.number = 0
        self.inputs: list[str] = []
        #: Commands, and those of inputs with the input.
        self.commands = ["start"]
        self.delivered: dict[str, str] = {}
        self.looked = 0
        self.batch: list[Observation] = []
        self.run.open()

    # --- what callers do ---

    def tell(self, command: Command) -> None:
        self.commands.append(command.command_id)
        self.run.do(command)

    def next_id(self) -> str:
        self.number += 1
        return f"k{self.number}"

    @rule(
        mode=st.sampled_from(InputMode),
        or_queue=st.booleans(),
        ttl=GRACE,
    )
    def send(self, mode: InputMode, or_queue: bool, ttl: float | None) -> None:
        command_id = self.next_id()
        input_id = "i" + command_id
        self.inputs.append(input_id)
        self.delivered[command_id] = input_id
        content = (Text("x"),)
        self.tell(Deliver(command_id, input_id, content, self.number, mode, or_queue, ttl))

    @rule(turn=st.integers(0, 3), after=AFTER, grace=GRACE, background=st.booleans())
    def interrupt(
        self, turn: int, after: AfterInterrupt | None, grace: float | None, background: bool
    ) -> None:
        self.tell(Interrupt(self.next_id(), turn, after, background, grace))

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        known = st.sampled_from([*self.inputs[-6:], "nobody's"])
        self.tell(Cancel(self.next_id(), data.draw(known)))

    @rule(approval=NAMES, decision=st.sampled_from(Decision))
    def respond(self, approval: str, decision: Decision) -> None:
        self.tell(Resolve(self.next_id(), approval, decision))

    @rule()
    def release(self) -> None:
        self.tell(Release(self.next_id()))

    @rule(policy=POLICIES)
    def update(self, policy: Policy) -> None:
        self.tell(Update(self.next_id(), policy))

    @precondition(lambda self: self.number > 12)
    @rule(grace=GRACE)
    def stop(self, grace: float | None) -> None:
        self.tell(Stop(self.next_id(), grace))

    @precondition(lambda self: self.number > 25)
    @rule()
    def kill(self) -> None:
        self.tell(Kill(self.next_id()))

    # --- what the driver and the time do ---

    def see(self, *observations: Observation) -> None:
        self.run.see(*self.batch, *observations)
        self.batch = []

    @rule(replacement=st.booleans())
    def up(self, replacement: bool) -> None:
        self.see(ProcessUp(7, replacement=replacement))

    @rule(own=st.booleans())
    def begin(self, own: bool) -> None:
        handed = any(isinstance(effect, SendTurn) for effect in self.run.said)
        self.see(TurnBegan(self.run.label if handed and not own else None))

    @rule(content=CONTENTS)
    def content(self, content: Observation) -> None:
        self.see(content)

    @rule(content=CONTENTS)
    def content_with_what_follows(self, content: Observation) -> None:
        self.batch.append(content)

    @rule(reason=st.sampled_from(REASONS))
    def over(self, reason: StopReason) -> None:
        self.see(TurnOver(reason))

    @rule(data=st.data())
    def steered(self, data: st.DataObject) -> None:
        if self.inputs:
            self.see(Steered(data.draw(st.sampled_from(self.inputs[-6:]))))

    @precondition(lambda self: self.number > 8)
    @rule(
        over=st.booleans(),
        code=st.none() | st.integers(0, 1),
        killed=st.booleans(),
        deliberate=st.booleans(),
    )
    def gone(self, over: bool, code: int | None, killed: bool, deliberate: bool) -> None:
        first = (TurnOver(StopReason.INTERRUPTED),) if over else ()
        signal = None if code is not None else 9
        self.see(*first, ProcessGone(7, code, signal, killed, deliberate))

    @precondition(lambda self: self.number > 20)
    @rule()
    def start_failed(self) -> None:
        self.see(StartFailed("no"))

    @precondition(lambda self: self.number > 20)
    @rule()
    def broken(self) -> None:
        self.run.take(self.run.machine.broken("broken", self.run.now))

    @rule(seconds=st.sampled_from([0.1, 5.0, 40.0]))
    def wait(self, seconds: float) -> None:
        self.run.wait(seconds)

    @rule()
    def succeeded(self) -> None:
        """Another process of the host takes over, and tells the driver what it may not know."""
        told = self.run.succeed()
        assert not any(isinstance(effect, Emit | Answer) for effect in told)
        self.batch = []

    @rule(seconds=st.sampled_from([0.1, 61.0]))
    def parked(self, seconds: float) -> None:
        self.run.take(self.run.machine.park(self.run.now))
        begun = len(self.run.said)
        self.run.wait(seconds)
        assert not any(isinstance(effect, SendTurn) for effect in self.run.said[begun:])
        self.run.take(self.run.machine.unpark(self.run.now))

    @rule(swept=st.integers(0, 2))
    def verified(self, swept: int) -> None:
        if any(isinstance(effect, VerifyGone) for effect in self.run.said):
            self.run.gone(swept)

    # --- what always holds ---
    # The order of the events is checked by the Run itself, at each of them.

    def fresh(self) -> list[Effect]:
        said = self.run.said[self.looked :]
        self.looked = len(self.run.said)
        return said

    @invariant()
    def phases_follow_each_other(self) -> None:
        phase = Phase.STARTING
        for changed in self.run.events(PhaseChanged):
            assert changed.before is phase
            assert changed.after is not phase
            phase = changed.after
        if not self.run.machine.closed:
            assert phase is self.run.phase()

    @invariant()
    def nothing_but_answers_follows_the_end(self) -> None:
        if self.run.closed:
            end = next(i for i, e in enumerate(self.run.said) if isinstance(e, Closed))
            assert all(isinstance(effect, Answer) for effect in self.run.said[end + 1 :])

    @invariant()
    def no_command_has_two_final_answers(self) -> None:
        final = Counter(a.command_id for a in self.run.said if isinstance(a, Answer) and a.final)
        assert all(count == 1 for count in final.values())
        assert set(final) <= set(self.commands)

    @invariant()
    def inputs_end_once(self) -> None:
        consumed = [e.input_id for e in self.run.events(InputConsumed)]
        cancelled = [e.input_id for e in self.run.events(InputCancelled)]
        assert max(Counter(consumed + cancelled).values(), default=0) <= 1
        left = set(self.run.machine.input_ids)
        assert left.isdisjoint(consumed + cancelled)

    @invariant()
    def the_deadline_lies_ahead(self) -> None:
        deadline = self.run.machine.deadline
        assert self.run.machine.closed or deadline is None or deadline >= self.run.now - 1e-6

    @invariant()
    def the_driver_is_asked_for_what_it_can_do(self) -> None:
        """No turn is sent while one is on, none is interrupted while none is."""
        said = self.fresh()
        kills = [e for e in said if isinstance(e, KillAgent | VerifyGone)]
        for effect in said:
            if isinstance(effect, StopAgent | SendTurn):
                assert not kills or said.index(effect) < said.index(kills[0])
            if isinstance(effect, InterruptTurn):
                assert effect.grace >= 0

    @invariant()
    def what_is_remembered_can_be_read_again(self) -> None:
        record = self.run.machine.record()
        assert RunRecord.load(record.dump()) == record

    # --- the end ---

    def teardown(self) -> None:
        if not hasattr(self, "run"):
            return
        run = self.run
        if not run.machine.closed:
            self.tell(Kill("last"))
            run.wait(30.0)
            run.gone()
        assert run.closed
        assert run.phase() in ENDED
        run.checker.finish()
        assert len(run.events(TurnEnded)) == run.machine.record().last_turn - (
            run.machine._spec.last_turn
        )
        opened = run.events(SessionEnded)
        if opened:
            assert opened[-1].phase is run.phase()
            assert isinstance(run.said[-1], Answer | Closed)
        self.every_command_has_its_answer(kept=run.phase() is Phase.FAILED)

    def every_command_has_its_answer(self, *, kept: bool) -> None:
        final = {a.command_id for a in self.run.said if isinstance(a, Answer) and a.final}
        waiting = set(self.run.machine.input_ids)
        for command_id in self.commands:
            if command_id not in final:
                assert kept
                assert self.delivered.get(command_id) in waiting


SessionMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=60)
TestSessionModel = SessionMachine.TestCase
