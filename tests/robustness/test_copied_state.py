"""A host's state directory is copied, and the copy is started where the original's agents live.

What is held: the copy kills nothing of the original's, and never says that it has seen gone what
lives; the original comes back, ends what is not its own any more, and the session can be resumed.
"""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

from bridle.v1 import session_pb2
from bridle_host import shim
from tests.pair import running_pair
from tests.robustness.test_survival import lasting, living, started
from tests.scenarios.support import check_order, kinds, log, output, reaches, turn_ends
from tests.support.driving import eventually


def copy(state: Path, target: Path) -> None:
    """As a backup does it: files, and no sockets."""
    shutil.copytree(state, target, ignore=shutil.ignore_patterns(shim.SOCKET_FILE))


async def test_a_copy_of_a_hosts_state_does_not_call_gone_what_lives_under_the_original(
    tmp_path: Path,
) -> None:
    async with running_pair(tmp_path) as pair:
        await pair.client.start_session("x", agent="shell", prompt="sleep 100000")
        await reaches(pair, "x", session_pb2.PHASE_RUNNING)
        await eventually(lambda: len(lasting(pair)) == 2)
        before = lasting(pair)
        await pair.end_host(signal.SIGKILL)

        original, aside = pair.home / "host", pair.home / "original"
        copy(original, pair.home / "copy")
        original.rename(aside)
        (pair.home / "copy").rename(original)
        await pair.start_host()
        await turn_ends(pair, "x", 1)
        await reaches(pair, "x", session_pb2.PHASE_FAILED)
        assert {pid: started(pid) for pid in before} == before
        events = await log(pair, "x")
        check_order(events)
        end = events[-1].session_ended
        assert not end.verified
        assert "copy" in end.message
        assert "process_exited" not in kinds(events)

        await pair.end_host()
        original.rename(pair.home / "copy")
        aside.rename(original)
        await pair.start_host()
        await eventually(lambda: not living(pair))
        await pair.client.resume("x", prompt="echo again")
        await turn_ends(pair, "x", 2)
        events = await log(pair, "x")
        check_order(events)
        assert output(events, 2) == "again\n"


async def test_a_run_whose_agent_is_gone_everywhere_ends_verified_under_a_copy_too(
    tmp_path: Path,
) -> None:
    async with running_pair(tmp_path) as pair:
        await pair.client.start_session("x", agent="shell", prompt="sleep 100000")
        await reaches(pair, "x", session_pb2.PHASE_RUNNING)
        await pair.end_host(signal.SIGKILL)
        original = pair.home / "host"
        copy(original, pair.home / "copy")
        # Nobody can come to its shim any more, which ends by itself.
        shutil.rmtree(original)
        await eventually(lambda: not living(pair))
        (pair.home / "copy").rename(original)
        await pair.start_host()
        await reaches(pair, "x", session_pb2.PHASE_FAILED)
        events = await log(pair, "x")
        check_order(events)
        assert events[-1].session_ended.verified
