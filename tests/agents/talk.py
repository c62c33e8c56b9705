"""A session with a real agent under a test's hand, and everything that a watcher is told of it.

`World` is what one test has: a scripted model, the pair, the agent's home. `Talk` is one session in
it. What a turn said is told by the words that the model tagged, never by what an event claims.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from bridle.v1 import event_pb2, input_pb2, receipt_pb2, session_pb2, watch_pb2
from tests.agents.profiles import AgentProfile
from tests.model_server import ModelServer, turn
from tests.model_server.script import Step
from tests.pair import Pair
from tests.scenarios.support import NEVER, bearing, check_order, log

#: Seconds for what an agent does by itself on a busy machine.
PATIENCE = 60.0

COMPLETED = event_pb2.STOP_REASON_COMPLETED
INTERRUPTED = event_pb2.STOP_REASON_INTERRUPTED
FAILED = event_pb2.STOP_REASON_FAILED
ASK, ALLOW = session_pb2.APPROVAL_POLICY_ASK, session_pb2.APPROVAL_POLICY_ALLOW

_WORD = re.compile(r"\b([A-Za-z0-9_-]+)\.\d+\b")

Kind = TypeVar("Kind")


@dataclass
class World:
    """What one test has. home: the agent's."""

    profile: AgentProfile
    pair: Pair
    model: ModelServer
    home: Path

    @property
    def work(self) -> Path:
        """Where its sessions work."""
        return self.pair.work

    def sleepers(self, count: int) -> list[str]:
        """Commands that sleep for minutes, each with a length that no other process has."""
        return [f"sleep 300.{os.getpid()}{time.monotonic_ns()}" for _ in range(count)]

    @asynccontextmanager
    async def talk(
        self,
        slug: str = "talk",
        *,
        approval: session_pb2.ApprovalPolicy.ValueType = ALLOW,
        grace: float | None = None,
    ) -> AsyncIterator[Talk]:
        """A session that is idle. At the end it is killed, and what was told of it is judged."""
        policy = session_pb2.SessionPolicy(approval=approval)
        if grace is not None:
            policy.interrupt_grace.FromMilliseconds(int(grace * 1000))
        talk = Talk(self, slug)
        try:
            await self.pair.client.start_session(
                slug,
                agent=self.profile.agent,
                agent_command=self.profile.command,
                environment=self.profile.environment(self.home, self.model.url),
                policy=policy,
            )
            async with talk.watched():
                await talk.idle()
                yield talk
                await self._end(talk)
        except BaseException:
            print(f"--- told of {slug}\n{talk.told()}")
            print(f"--- host\n{self.pair.log('host').read_text(errors='replace')[-20_000:]}")
            raise
        judge(await log(self.pair, slug), talk.items, set(talk.inputs))

    async def _end(self, talk: Talk) -> None:
        """Kills the session unless it has ended, and waits for what is told of that."""
        found = await self.pair.client.get_session(talk.slug)
        if found.phase not in ENDED:
            await talk.outcome((await self.pair.client.kill(talk.slug)).receipt)
        await talk.until(lambda: talk.ended(found.run) is not None, "the session ends")


ENDED = {session_pb2.PHASE_STOPPED, session_pb2.PHASE_FAILED, session_pb2.PHASE_KILLED}


class Talk:
    """See the module. items: events and live text in the order in which they were told."""

    def __init__(self, world: World, slug: str) -> None:
        self.world, self.slug = world, slug
        self.client = world.pair.client
        self.items: list[event_pb2.Event | watch_pb2.LiveText] = []
        #: The text of each message that was told live, as far as it came.
        self.live: dict[str, bytes] = defaultdict(bytes)
        self._changed = asyncio.Condition()
        #: The input of each tag that was sent.
        self.inputs: dict[str, str] = {}
        self._broken: BaseException | None = None

    # --- what was told ---

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        task = asyncio.get_running_loop().create_task(self._watch())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _watch(self) -> None:
        try:
            async with self.client.watch(self.slug, until=NEVER, live_text=True) as watch:
                async for update in watch.updates():
                    if isinstance(update.item, event_pb2.Event | watch_pb2.LiveText):
                        async with self._changed:
                            self._take(update.item)
                            self._changed.notify_all()
        except Exception as error:  # noqa: BLE001 - told where it is waited for
            async with self._changed:
                self._broken = error
                self._changed.notify_all()

    def _take(self, item: event_pb2.Event | watch_pb2.LiveText) -> None:
        self.items.append(item)
        if isinstance(item, watch_pb2.LiveText):
            known = self.live[item.message_id]
            assert item.offset <= len(known), "live text has a hole"
            self.live[item.message_id] = known[: item.offset] + item.text.encode()

    @property
    def events(self) -> list[event_pb2.Event]:
        return [item for item in self.items if isinstance(item, event_pb2.Event)]

    def of(self, kind: str, turn: int | None = None) -> list[event_pb2.Event]:
        """The events of a kind, by its name in the contract; of one turn or of all."""
        return [e for e in self.events if e.WhichOneof("kind") == kind and turn in (None, e.turn)]

    async def until(
        self, condition: Callable[[], object], what: str, patience: float = PATIENCE
    ) -> None:
        """Waits until what was told meets a condition."""
        try:
            async with asyncio.timeout(patience), self._changed:
                await self._changed.wait_for(lambda: self._broken or condition())
        except TimeoutError:
            told = "\n".join(_line(item) for item in self.items[-40:])
            asked = [(r.tag, r.request.tags, r.text[-80:], r.done) for r in self.model.replies[-8:]]
            raise AssertionError(f"never told: {what}\n{told}\nthe model: {asked}") from None
        if self._broken is not None:
            raise self._broken

    @property
    def model(self) -> ModelServer:
        return self.world.model

    # --- doing ---

    async def send(
        self,
        tag: str,
        *steps: Step,
        mode: input_pb2.InputMode.ValueType = input_pb2.INPUT_MODE_UNSPECIFIED,
        or_queue: bool = False,
    ) -> receipt_pb2.Receipt:
        """Sends the script of a turn."""
        sent = await self.client.send(self.slug, turn(tag, *steps), mode=mode, or_queue=or_queue)
        self.inputs[tag] = sent.receipt.input_id
        return sent.receipt

    async def say(self, tag: str, words: int = 2) -> event_pb2.TurnEnded:
        """A turn of a few words, to its end."""
        await self.send(tag, Step("say", str(words)))
        return await self.ends(tag)

    async def interrupt(self, **how: float | bool) -> receipt_pb2.Receipt:
        """Interrupts, and waits for what came of it."""
        return await self.outcome((await self.client.interrupt(self.slug, **how)).receipt)  # type: ignore[arg-type]

    async def outcome(self, receipt: receipt_pb2.Receipt) -> receipt_pb2.Receipt:
        async with asyncio.timeout(PATIENCE):
            return await self.client.wait(receipt)

    async def idle(self, run: int = 1) -> None:
        """Waits until the agent of a run is up."""
        up = (session_pb2.PHASE_IDLE, session_pb2.PHASE_RUNNING)

        def reached() -> bool:
            assert self.ended(run) is None, f"it ended: {self.ended(run)}\n{self.told()}"
            changes = [e for e in self.of("phase_changed") if e.run == run]
            return any(e.phase_changed.to in up for e in changes)

        await self.until(reached, "the agent is up")

    def told(self) -> str:
        """Everything, for a failure's message."""
        return "\n".join(_line(item) for item in self.items)

    # --- turns, by the tags of their scripts ---

    def number(self, tag: str) -> int | None:
        """The number of the turn that took a script up; None as long as none did."""
        for event in self.of("turn_started"):
            if self.inputs[tag] in event.turn_started.input_ids:
                return event.turn
        return None

    async def begins(self, tag: str) -> int:
        await self.until(lambda: self.number(tag) is not None, f"turn {tag} begins")
        number = self.number(tag)
        assert number is not None
        return number

    async def ends(self, tag: str) -> event_pb2.TurnEnded:
        number = await self.begins(tag)
        await self.until(lambda: self.of("turn_ended", number), f"turn {tag} ends")
        return self.of("turn_ended", number)[0].turn_ended

    def messages(self, tag: str, *, partial: bool = False) -> list[str]:
        """The texts of a turn's messages; with `partial` those that were cut short, too."""
        return [
            text_of(e)
            for e in self.of("agent_message", self.number(tag))
            if partial or not e.agent_message.partial
        ]

    def output(self, tag: str) -> str:
        """What the tools of a turn put out."""
        return "".join(map(text_of, self.of("tool_call_output", self.number(tag))))

    def ended(self, run: int) -> event_pb2.SessionEnded | None:
        ends = [e.session_ended for e in self.of("session_ended") if e.run == run]
        return ends[-1] if ends else None

    async def tool_starts(self, tag: str) -> event_pb2.ToolCallStarted:
        number = await self.begins(tag)
        await self.until(lambda: self.of("tool_call_started", number), f"{tag}'s tool starts")
        return self.of("tool_call_started", number)[0].tool_call_started

    async def asks(self, tag: str) -> event_pb2.ApprovalRequested:
        """Waits for the open question of a turn."""
        number = await self.begins(tag)

        def open_ones() -> list[event_pb2.ApprovalRequested]:
            answered = {
                e.approval_resolved.approval_id for e in self.of("approval_resolved", number)
            }
            asked = [e.approval_requested for e in self.of("approval_requested", number)]
            return [each for each in asked if each.approval_id not in answered]

        await self.until(open_ones, f"turn {tag} asks")
        return open_ones()[0]

    @property
    def replacements(self) -> int:
        """How many agents took another's place within a run."""
        return sum(e.process_started.replacement for e in self.of("process_started"))


async def running(command: str) -> bool:
    """Whether a process has this command line; a shell that only names it does not count."""
    return any(line.startswith(command) for line in bearing(command))


async def gone(command: str) -> bool:
    return not await running(command)


def text_of(event: event_pb2.Event) -> str:
    """What an event says: a message, a thought or output; empty for others."""
    match event.WhichOneof("kind"):
        case "agent_message":
            return "".join(piece.text for piece in event.agent_message.content)
        case "agent_thought":
            return event.agent_thought.text
        case "tool_call_output":
            output = event.tool_call_output
            return output.text or output.data.decode("utf-8", "replace")
    return ""


def judge(
    events: Iterable[event_pb2.Event],
    items: Iterable[event_pb2.Event | watch_pb2.LiveText],
    tags: AbstractSet[str],
) -> None:
    """Holds what was told against the order table, and each turn's words against its end.

    No word of a turn comes behind that turn's end, whatever turn the event claims to be of, and
    none comes in another turn.
    """
    events = list(events)
    check_order(events).finish()
    seen = [item for item in items if isinstance(item, event_pb2.Event)]
    assert [e.sequence for e in seen] == [e.sequence for e in events[: len(seen)]]
    at: dict[str, int] = {}
    over: set[int] = set()
    for item in items:
        turn = item.turn
        said = item.text if isinstance(item, watch_pb2.LiveText) else _spoken(item)
        for tag in tags & set(_WORD.findall(said)):
            assert at.setdefault(tag, turn) == turn, (
                f"a word of {tag} in turn {turn}: {_line(item)}"
            )
            assert turn not in over, f"a word of {tag} behind its turn's end: {_line(item)}"
        if isinstance(item, event_pb2.Event) and item.HasField("turn_ended"):
            over.add(turn)


def _spoken(event: event_pb2.Event) -> str:
    """What the model said; what a tool put out may be anything, this very log too."""
    return "" if event.HasField("tool_call_output") else text_of(event)


def _line(item: event_pb2.Event | watch_pb2.LiveText) -> str:
    if isinstance(item, watch_pb2.LiveText):
        return f"      live turn {item.turn} {item.message_id} +{item.offset} {item.text[:80]!r}"
    kind = item.WhichOneof("kind") or "?"
    what = str(getattr(item, kind)).replace("\n", " ")[:300]
    return f"{item.sequence:5} turn {item.turn} {kind} {what}"
