"""The session actors with real shells: what lives, what ends, what is left, after each verb."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from bridle.host.v1 import host_link_service_pb2 as host_pb
from bridle.v1 import event_pb2, session_pb2
from bridle_host.containment import Containment
from bridle_host.drivers.registry import factories
from tests.bridle_host.journal_support import until
from tests.bridle_host.sessions_support import SESSION, Host, hosting, seconds, strongest
from tests.support.leaks import GUARD


@pytest.fixture(scope="module")
def containment() -> Containment:
    return strongest()


def marked(session_id: str) -> list[int]:
    """The processes of a session that live, by the mark in their environment.

    Of those that this run of the tests has started: others name their sessions alike.
    """
    ours = f"{GUARD}={os.environ[GUARD]}".encode()
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            environment = Path("/proc", pid, "environ").read_bytes()
            state = Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        mark = f"BRIDLE_SESSION_MARK={session_id}".encode()
        if mark in environment and ours in environment and state != "Z":
            found.append(int(pid))
    return found


def commands_of(session_id: str) -> list[str]:
    """The names of what `marked` finds, sorted."""
    names = []
    for pid in marked(session_id):
        with suppress(OSError):
            names.append(Path("/proc", str(pid), "comm").read_text().strip())
    return sorted(names)


async def shell(host: Host, session_id: str = SESSION, **fields: Any) -> None:
    start = await host.start(session_id, agent="shell", **fields)
    assert await host.outcome(start) == ("RAN", "DONE")


async def text_of(host: Host, turn: int, session_id: str = SESSION) -> str:
    return "".join(
        event.tool_call_output.text
        for event in await host.events(session_id)
        if event.HasField("tool_call_output") and event.turn == turn
    )


async def test_an_interrupted_shell_answers_the_queued_follow_up(
    tmp_path: Path, containment: Containment
) -> None:
    async with hosting(tmp_path, factories(), containment=containment) as host:
        await shell(host)
        await host.send("x=7; setsid sleep 1000 & sleep 1000")
        await host.event("tool_call_started")
        await until(lambda: len(marked(SESSION)) >= 3)
        await host.send("echo $x")
        interrupt = await host.interrupt()
        assert await host.outcome(interrupt) == ("RAN", "TURN_INTERRUPTED")
        await host.event("turn_ended", 2)
        assert await text_of(host, 2) == "7\n"
        await host.in_order()


async def test_a_bash_that_will_not_yield_is_replaced_and_the_next_input_runs_once(
    tmp_path: Path, containment: Containment
) -> None:
    async with hosting(tmp_path, factories(), containment=containment) as host:
        await shell(host)
        deaf = "".join(f"trap '' {n} 2>/dev/null;" for n in range(1, 65) if n not in (9, 19))
        await host.send(deaf + "echo deaf; while :; do :; done")
        await host.event("tool_call_output")  # as long as it is not deaf, it gives way
        again = await host.send("echo once")
        interrupt = await host.interrupt(grace=seconds(0.2))
        assert await host.outcome(interrupt) == ("RAN", "TURN_INTERRUPTED")
        assert await host.outcome(again) == ("RAN", "TURN_STARTED")
        await host.event("turn_ended", 2)
        assert await text_of(host, 2) == "once\n"
        assert (await host.event("process_started", 2)).replacement
        kinds = await host.kinds()
        assert (kinds.count("turn_started"), kinds.count("input_consumed")) == (2, 2)
        await host.in_order()


@pytest.mark.parametrize("verb", ["stop", "kill"])
async def test_after_the_end_nothing_is_left(
    tmp_path: Path, containment: Containment, verb: str
) -> None:
    async with hosting(tmp_path, factories(), containment=containment) as host:
        await shell(host)
        await host.send("setsid sleep 1000 & (sleep 1000 & disown); nohup sleep 1000 &")
        await host.event("turn_ended")
        # (Before that one of them is the setsid that began its sleep.)
        await until(lambda: commands_of(SESSION) == ["bash", "sleep", "sleep", "sleep"])
        end = await getattr(host, verb)()
        assert await host.outcome(end) == ("RAN", "DONE")
        assert marked(SESSION) == []
        ended = await host.event("session_ended")
        assert ended.verified
        assert ended.swept == 3
        (await host.in_order()).finish()


async def test_a_resumed_shell_is_seeded(tmp_path: Path, containment: Containment) -> None:
    async with hosting(tmp_path, factories(), containment=containment) as host:
        await shell(host)
        await host.send("export KEPT=yes; mkdir -p deep; cd deep")
        await host.event("turn_ended")
        await host.outcome(await host.stop())
        states = [r.driver_state.state for r in await host.records() if r.HasField("driver_state")]
        resume = host_pb.ResumeFrom(
            mode=event_pb2.RESUME_MODE_AUTO, driver_state=states[-1], same_host=True
        )
        # At once: the first run's files may still be put away.
        await shell(host, run=2, last_turn=1, resume=resume)
        await host.send("echo $KEPT; pwd", run=2)
        await host.event("turn_ended", 2)
        assert await text_of(host, 2) == f"yes\n{host.directory}/deep\n"
        assert (await host.event("session_resumed")).mode == event_pb2.RESUME_MODE_SEEDED
        await host.in_order()


async def test_a_kill_that_comes_with_the_start_leaves_nothing(
    tmp_path: Path, containment: Containment
) -> None:
    async with hosting(tmp_path, factories(), containment=containment) as host:
        for number in range(10):
            session_id = f"s{number}"
            await host.start(session_id, agent="shell")
            await host.send("sleep 1000", session_id)
            # A few steps of the loop later each time.
            for _ in range(number * 3):
                await asyncio.sleep(0)
            kill = await host.kill(session_id)
            assert await host.outcome(kill) == ("RAN", "DONE")
            assert marked(session_id) == []
            (await host.in_order(session_id)).finish()


async def test_a_shell_that_exits_takes_its_queue_along(
    tmp_path: Path, containment: Containment
) -> None:
    async with hosting(tmp_path, factories(), containment=containment) as host:
        await shell(host)
        gate = tmp_path / "gate"
        await host.send(f"until test -e {gate}; do sleep 0.01; done; exit 3")
        late = await host.send("echo never")
        assert await host.answer(late) == ("PENDING", "QUEUED")
        gate.touch()
        ended = await host.event("session_ended")
        assert ended.phase == session_pb2.PHASE_STOPPED
        assert ended.reason == session_pb2.END_REASON_AGENT_EXITED
        assert await host.outcome(late) == ("NOT_RUN", "CANCELLED")
        (await host.in_order()).finish()


async def test_many_sessions_at_once_run_every_command_once_and_in_order(
    tmp_path: Path, containment: Containment
) -> None:
    sessions, commands = 6, 15

    async with hosting(tmp_path, factories(), containment=containment) as host:

        async def work(session_id: str) -> None:
            await shell(host, session_id)
            for number in range(commands):
                await host.send(f"echo {number}", session_id)
            await host.event("turn_ended", commands, session_id)
            told = [await text_of(host, turn, session_id) for turn in range(1, commands + 1)]
            assert told == [f"{number}\n" for number in range(commands)]
            await host.outcome(await host.kill(session_id))
            (await host.in_order(session_id)).finish()

        async with asyncio.TaskGroup() as group:
            for number in range(sessions):
                group.create_task(work(f"s{number}"))
        assert not [pid for number in range(sessions) for pid in marked(f"s{number}:")]


async def test_a_flood_of_output_does_not_hold_an_interrupt(
    tmp_path: Path, containment: Containment
) -> None:
    async with hosting(tmp_path, factories(), containment=containment) as host:
        await shell(host)
        await host.send("yes")
        await host.event("tool_call_output", 3)
        clock = asyncio.get_running_loop().time
        begin = clock()
        interrupt = await host.interrupt(grace=seconds(40))
        await until(lambda: bool(host.journal.answers(interrupt)))
        await until(lambda: len(host.journal.answers(interrupt)) == 2)
        assert clock() - begin < 20.0
        await host.in_order()


DYING_HOST = """
import asyncio, sys
from pathlib import Path
from bridle_host.drivers.registry import factories
from tests.bridle_host.sessions_support import hosting, strongest

async def main():
    async with hosting(Path(sys.argv[1]), factories(), containment=strongest()) as host:
        await host.start(agent="shell")
        await host.send("setsid sleep 1000 & sleep 1000")
        await host.event("tool_call_started")
        await host.send("echo never")
        await host.answer(await host.interrupt(grace={"seconds": 100}, turn=9))
        print("busy", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_a_host_that_was_killed_is_followed_by_one_that_takes_its_runs_over(
    tmp_path: Path, containment: Containment
) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", DYING_HOST, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"busy\n"
    process.kill()
    await process.wait()
    async with hosting(tmp_path, factories(), containment=containment) as host:
        held = marked(SESSION)
        assert held
        assert "turn_ended" not in await host.kinds()
        # An id that the first host has not given to another command.
        await host.command(SESSION, 1, "the-kill", kill=host_pb.KillRun())
        ended = await host.event("session_ended")
        assert marked(SESSION) == []
        (await host.in_order()).finish()
        assert ended.phase == session_pb2.PHASE_KILLED
        assert (await host.kinds()).count("turn_started") == 1
        assert (await host.event("turn_ended")).stop_reason == event_pb2.STOP_REASON_KILLED
        assert (await host.event("tool_call_ended")).status == event_pb2.TOOL_CALL_STATUS_CANCELLED
        await until(lambda: not list((tmp_path / "runs").glob("*")))
