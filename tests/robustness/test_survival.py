"""The host service is killed, ended and upgraded under its sessions, and they do not notice.

What is held: after each return of the host the agents are the same processes, nothing that they
said is lost or there twice, no order is given twice or forgotten, and no process is there that
nobody knows of. The long form: `BRIDLE_AGENTS=20 BRIDLE_ROUNDS=50`, and `BRIDLE_SEED` for other
moments.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
import sys
import time
from pathlib import Path

import pytest

from bridle import by_id
from bridle.errors import BridleError
from bridle.ids import uuid7
from bridle.v1 import event_pb2, session_pb2
from bridle_host import shim
from tests.pair import PATIENCE, Pair, running_pair, until
from tests.scenarios.support import RAN, check_order, kinds, log, output, reaches, turn_ends
from tests.support.driving import eventually
from tests.support.pace import paced
from tests.support.shims import held

AGENTS = int(os.environ.get("BRIDLE_AGENTS", "5"))
ROUNDS = int(os.environ.get("BRIDLE_ROUNDS", "6"))
SEED = int(os.environ.get("BRIDLE_SEED", "1"))

#: Counts until it is told to stop. What it leaves in the background has left its tree: a session of
#: its own, and no parent that knows it.
COUNTING = """
setsid sh -c 'sleep 100000 & : > {room}/daemon'
i=0; until test -e {room}/stop; do i=$((i+1)); echo {slug} $i; sleep 0.0{pause}; done
echo {slug} last $i
"""


def started(pid: int) -> int:
    """When a process was started, in ticks: with its pid it names the process."""
    process = shim.read_process(pid)
    assert process is not None, f"process {pid} is gone"
    assert not process.dead, f"process {pid} is dead"
    return process.start


def living(pair: Pair) -> dict[int, tuple[str, str]]:
    """The processes of this pair's sessions, by pid: the session's slug, the command line."""
    found = {}
    home = f"{pair.home}/"
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                raw = (entry / "environ").read_bytes().decode(errors="replace")
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            environment = dict(item.partition("=")[::2] for item in raw.split("\0"))
            if environment.get("BRIDLE_TOKEN_FILE", "").startswith(home):
                slug = environment.get("BRIDLE_SESSION", "")
                found[int(entry.name)] = (slug, command.replace("\0", " ").strip())
    return found


def lasting(pair: Pair, slug: str = "") -> dict[int, int]:
    """Those of one session, or of all, that are no step of the counting: when each was started."""
    found = {
        pid: shim.read_process(pid)
        for pid, (session, command) in living(pair).items()
        if slug in ("", session) and not command.startswith("sleep 0.")
    }
    # (One that has ended between the two looks is not there.)
    return {pid: seen.start for pid, seen in found.items() if seen is not None and not seen.dead}


class Agent:
    """A session that counts, and what of it must still be there after each round."""

    def __init__(self, pair: Pair, slug: str) -> None:
        self.pair = pair
        self.slug = slug
        self.room = pair.work / slug
        self.processes: dict[int, int] = {}

    async def start(self, pause: int) -> None:
        self.room.mkdir()
        script = COUNTING.format(room=self.room, slug=self.slug, pause=pause)
        await self.pair.client.start_session(self.slug, agent="shell", prompt=script)
        await eventually((self.room / "daemon").exists)
        await reaches(self.pair, self.slug, session_pb2.PHASE_RUNNING)
        events = await log(self.pair, self.slug)
        up = next(e for e in events if e.WhichOneof("kind") == "process_started")
        # By what they are, not by their number: whoever starts them may be seen for a moment.
        await eventually(lambda: len(self.daemons()) == 1)
        pids = (up.process_started.pid, *self.daemons())
        self.processes = {pid: started(pid) for pid in pids}

    def daemons(self) -> list[int]:
        found = living(self.pair).items()
        return [pid for pid, told in found if told == (self.slug, "sleep 100000")]

    def check_alive(self) -> None:
        for pid, ticks in self.processes.items():
            assert started(pid) == ticks, f"{self.slug}: {pid} is another process"

    async def told(self) -> int:
        """How long its log is."""
        return (await self.pair.client.get_session(self.slug)).last_sequence

    async def heard(self, since: int) -> None:
        """Wait until its log is longer than it was."""

        async def longer() -> bool:
            return await self.told() > since

        await until(longer, f"{self.slug} is heard again")

    async def lines(self) -> list[str]:
        return output(await log(self.pair, self.slug)).splitlines()

    async def finish(self) -> int:
        """Let it count no further, and hold its log against what it said. How far it came."""
        (self.room / "stop").touch()
        await turn_ends(self.pair, self.slug, 1)
        events = await log(self.pair, self.slug)
        check_order(events)
        assert kinds(events).count("process_started") == 1
        lines = output(events, 1).splitlines()
        assert re.fullmatch(rf"{self.slug} last \d+", lines[-1])
        count = int(lines[-1].split()[-1])
        assert lines[:-1] == [f"{self.slug} {number}" for number in range(1, count + 1)]
        return count


@pytest.mark.timeout(240 + 30 * ROUNDS)
async def test_a_host_that_is_killed_again_and_again_loses_no_agent_no_word_and_no_order(
    tmp_path: Path,
) -> None:
    chance = random.Random(SEED)
    ledger = tmp_path / "ledger"
    slowest = 0.0
    limit = ["--session-limit", "200"]
    async with running_pair(tmp_path, host_arguments=limit) as pair:
        agents = [Agent(pair, f"agent-{number}") for number in range(AGENTS)]
        async with asyncio.TaskGroup() as group:
            for agent in agents:
                group.create_task(agent.start(chance.randrange(1, 5)))
        await pair.client.start_session("doer", agent="shell")
        for number in range(ROUNDS):
            # One order on its way while the host dies, others that wait in its queue.
            async with asyncio.TaskGroup() as group:
                for part in "abc":
                    text = f"sleep 0.0{chance.randrange(10)}; echo {number}{part} >> {ledger}"
                    group.create_task(pair.client.send("doer", text))
                    await asyncio.sleep(chance.random() * 0.02)
                await asyncio.sleep(chance.random() * 0.1)
                await pair.end_host(signal.SIGKILL)
                before = [await agent.told() for agent in agents]
                await asyncio.sleep(chance.random() * 0.3)
                began = time.monotonic()
                await pair.start_host()
            for agent in agents:
                agent.check_alive()
            # Back is who hears them all again; so none passes idle, either.
            for agent, told in zip(agents, before, strict=True):
                await agent.heard(told)
            slowest = max(slowest, time.monotonic() - began)
        counts = [await agent.finish() for agent in agents]
        await eventually(lambda: len(played(ledger)) >= 3 * ROUNDS)
        await reaches(pair, "doer", session_pb2.PHASE_IDLE)
        await turn_ends(pair, "doer", 3 * ROUNDS)
        orders = played(ledger)
        assert sorted(orders) == sorted(f"{n}{part}" for n in range(ROUNDS) for part in "abc")
        events = await log(pair, "doer")
        check_order(events)
        assert kinds(events).count("turn_started") == 3 * ROUNDS
        for agent in agents:
            agent.check_alive()
        # Nothing is there that is not known: two for each agent, and the doer's shell.
        known = {pid for agent in agents for pid in agent.processes}
        assert set(lasting(pair)) - known == set(lasting(pair, "doer"))
        assert len(lasting(pair, "doer")) == 1
        assert len(held(pair.runs)) == AGENTS + 1
        await pair.kill_all()
        await eventually(lambda: not living(pair) and not held(pair.runs))
        print(
            f"\n{AGENTS} agents, {ROUNDS} kills of the host: {sum(counts)} lines, "
            f"{3 * ROUNDS} orders, slowest return {slowest:.2f} s"
        )
        assert slowest < paced(10.0)


def played(ledger: Path) -> list[str]:
    return ledger.read_text().split() if ledger.exists() else []


# --- one moment each ----------------------------------------------------------------------------


async def test_a_host_that_is_killed_while_agents_start_has_each_of_them_once(
    tmp_path: Path,
) -> None:
    chance = random.Random(SEED)
    async with running_pair(tmp_path, host_arguments=["--session-limit", "100"]) as pair:
        slugs: list[str] = []
        for number in range(3):
            new = [f"new-{number}-{part}" for part in "abc"]
            slugs += new
            async with asyncio.TaskGroup() as group:
                for slug in new:
                    prompt = f"echo {slug} >> {tmp_path}/ledger"
                    group.create_task(start_anyhow(pair, slug, prompt))
                await asyncio.sleep(0.03 + chance.random() * 0.25)
                await pair.end_host(signal.SIGKILL)
                await pair.start_host()
        for slug in slugs:
            await turn_ends(pair, slug, 1)
            await reaches(pair, slug, session_pb2.PHASE_IDLE)
            events = await log(pair, slug)
            check_order(events)
            assert kinds(events).count("process_started") == 1
        assert sorted(played(tmp_path / "ledger")) == sorted(slugs)
        assert sorted(slug for slug, _ in living(pair).values()) == sorted(slugs)
        assert len(held(pair.runs)) == len(slugs)


async def start_anyhow(pair: Pair, slug: str, prompt: str) -> None:
    """Start a session, again for as long as its host is not there; the same one each time."""
    request_id = uuid7()
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await pair.client.start_session(
                    slug, agent="shell", prompt=prompt, request_id=request_id
                )
            except BridleError as error:
                if error.reason not in ("NO_HOST", "HOST_UNREACHABLE"):
                    raise
                request_id = uuid7()
                await asyncio.sleep(0.05)
            else:
                return


async def test_a_stop_goes_on_over_the_death_of_the_host(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    async with running_pair(tmp_path) as pair:
        busy = pair.work / "go-on"
        prompt = f"until test -e {busy}; do sleep 0.02; done; echo done"
        await pair.client.start_session("busy", agent="shell", prompt=prompt)
        await reaches(pair, "busy", session_pb2.PHASE_RUNNING)
        stopped = await pair.client.stop("busy")
        for number in range(4):
            await pair.client.start_session(f"idle-{number}", agent="shell", prompt="sleep 0.01")
            await turn_ends(pair, f"idle-{number}", 1)
            async with asyncio.TaskGroup() as group:
                stopping = group.create_task(pair.client.stop(f"idle-{number}"))
                await asyncio.sleep(chance.random() * 0.04)
                await pair.end_host(signal.SIGKILL)
                await pair.start_host()
            outcome = await pair.client.wait(stopping.result().receipt)
            assert outcome.outcome.state == RAN
        busy.touch()
        outcome = await pair.client.wait(stopped.receipt)
        assert outcome.outcome.state == RAN
        for slug in ("busy", *(f"idle-{number}" for number in range(4))):
            events = await log(pair, slug)
            check_order(events)
            end = events[-1].session_ended
            assert end.phase == session_pb2.PHASE_STOPPED, (slug, end)
            assert end.verified
            assert "artifacts_reported" in kinds(events)
        assert output(await log(pair, "busy")) == "done\n"
        await eventually(lambda: not living(pair) and not held(pair.runs))


async def test_an_interrupt_goes_on_over_the_death_of_the_host(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    async with running_pair(tmp_path) as pair:
        await pair.client.start_session("deaf", agent="shell", prompt="sleep 100000 & :")
        await turn_ends(pair, "deaf", 1)
        # (Who is just becoming `sleep` has no environment for that moment, and is not seen.)
        await eventually(lambda: len(lasting(pair)) == 2)
        known = lasting(pair)
        for turn in range(2, 5):
            deaf = "trap '' INT TERM; setsid sleep 99999 & sleep 99999; echo never"
            await pair.client.send("deaf", f"( {deaf} )")
            await eventually(lambda: len(lasting(pair)) >= 4)
            interrupted = await pair.client.interrupt("deaf", grace=1.0)
            await asyncio.sleep(chance.random() * 0.5)
            await pair.end_host(signal.SIGKILL)
            await pair.start_host()
            outcome = await pair.client.wait(interrupted.receipt)
            assert outcome.outcome.state == RAN
            assert outcome.outcome.turn == turn
            ended = (await turn_ends(pair, "deaf", turn)).turn_ended
            assert ended.stop_reason == event_pb2.STOP_REASON_INTERRUPTED
            await eventually(lambda: lasting(pair) == known)
        last = await pair.client.send("deaf", "echo alive")
        await pair.client.wait(last.receipt)
        await turn_ends(pair, "deaf", 5)
        events = await log(pair, "deaf")
        check_order(events)
        assert output(events) == "alive\n"


async def test_a_host_that_is_told_to_end_leaves_its_sessions_to_the_next_and_says_which(
    tmp_path: Path,
) -> None:
    async with running_pair(tmp_path) as pair:
        agent = Agent(pair, "lasting")
        await agent.start(2)
        for _ in range(2):
            began = time.monotonic()
            host = pair.host
            await pair.end_host(signal.SIGTERM)
            assert host is not None
            assert host.returncode == 0
            assert time.monotonic() - began < paced(5.0)
            said = pair.log("host").read_text()
            assert "goes on without its host service" in said
            assert "session=default/lasting" in said
            agent.check_alive()
            before = len(await agent.lines())
            await pair.start_host()
            agent.check_alive()

            async def more(before: int = before) -> bool:
                return len(await agent.lines()) > before + 10

            await until(more, "it goes on")
        assert await agent.finish() > 20
        await pair.kill_all()
        await eventually(lambda: not living(pair))


#: Another version of the host service: as an upgrade would put in the place of this one.
UPGRADED = """
import sys
from bridle_core import version
version.VERSION = "99.0.0"
from bridle_host.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


async def test_an_upgraded_host_takes_over_the_sessions_of_its_predecessor(tmp_path: Path) -> None:
    async with running_pair(tmp_path) as pair:
        agent = Agent(pair, "lasting")
        await agent.start(2)
        old = [host.version async for host in pair.client.list_hosts()]
        await pair.end_host(signal.SIGTERM)
        pair.host_program = (sys.executable, "-c", UPGRADED)
        await pair.start_host()
        new = [host.version async for host in pair.client.list_hosts()]
        assert (len(old), new) == (1, ["99.0.0"])
        assert old != new
        agent.check_alive()
        await pair.client.send(by_id(await session_id(pair, "lasting")), "echo after")
        await agent.finish()
        await turn_ends(pair, "lasting", 2)
        assert (await agent.lines())[-1] == "after"


@pytest.mark.parametrize("back", ["there", "away"])
async def test_an_end_that_nobody_could_see_all_of_does_not_say_that_it_was_seen(
    tmp_path: Path, back: str
) -> None:
    async with running_pair(tmp_path, host_arguments=("--containment", "SUBREAPER")) as pair:
        await pair.client.start_session("x", agent="shell", prompt="echo up")
        await turn_ends(pair, "x", 1)
        (place,) = pair.runs.glob("*/*/process/shim.json")
        state = json.loads(place.read_text())
        if state["cgroup"]:
            pytest.skip("SKIP: a cgroup holds all here")
        if back == "away":
            await pair.end_host(signal.SIGKILL)
        for number in (signal.SIGSTOP, signal.SIGKILL):  # so that neither acts on the other's death
            for pid in (state["guardian"]["pid"], state["pid"]):
                os.kill(pid, number)
        if back == "away":
            await pair.start_host()
        await reaches(pair, "x", session_pb2.PHASE_FAILED)
        events = await log(pair, "x")
        check_order(events)
        end = events[-1].session_ended
        assert (end.reason, end.verified) == (session_pb2.END_REASON_AGENT_LOST, False)
        assert "killed together" in end.message
        assert "process_exited" in kinds(events)
        await pair.client.resume("x")
        await reaches(pair, "x", session_pb2.PHASE_IDLE)
        await pair.kill_all()
        assert (await log(pair, "x"))[-1].session_ended.verified


async def session_id(pair: Pair, slug: str) -> str:
    return (await pair.client.get_session(slug)).session_id


async def test_a_lost_journal_costs_the_open_turn_and_no_agent(tmp_path: Path) -> None:
    async with running_pair(tmp_path) as pair:
        agent = Agent(pair, "lasting")
        await agent.start(2)
        shell = next(iter(agent.processes))  # (Not by its name: its children bear it at first.)
        assert living(pair)[shell][1].startswith("bash")
        await pair.client.send("lasting", "echo waiting")
        await pair.end_host(signal.SIGKILL)
        for file in (pair.home / "host").glob("journal*"):
            file.unlink()
        await pair.start_host()
        ended = (await turn_ends(pair, "lasting", 1)).turn_ended
        assert ended.stop_reason == event_pb2.STOP_REASON_HOST_STATE_LOST
        await turn_ends(pair, "lasting", 2)
        await reaches(pair, "lasting", session_pb2.PHASE_IDLE)
        assert started(shell) == agent.processes[shell]
        events = await log(pair, "lasting")
        check_order(events)
        assert output(events, 2) == "waiting\n"
        # Nothing of the turn that is over for the log follows its end.
        over = next(e.sequence for e in events if e.WhichOneof("kind") == "turn_ended")
        assert not [e for e in events if e.turn == 1 and e.sequence > over]
        # And it is over for the agent, too.
        await eventually(lambda: set(lasting(pair)) == {shell} | set(lasting(pair, "lasting")))
        assert not [c for _, c in living(pair).values() if c.startswith("sleep 0.")]
        assert kinds(events).count("process_started") == 1
