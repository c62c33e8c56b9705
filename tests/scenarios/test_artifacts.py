"""What a run leaves behind is listed when it is stopped, and can be read from any machine."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bridle import ArtifactNotFoundError, BridleError, Client
from bridle.v1 import event_pb2
from tests.pair import PATIENCE, Pair, running_pair, until
from tests.scenarios.support import kinds, log, turn_ends
from tests.support.pace import paced

MEGABYTE = 1024 * 1024


async def _stopped(
    pair: Pair, slug: str, script: str, *, directory: str = ""
) -> event_pb2.ArtifactsReported:
    """A session that ran a script and was stopped; what it reported."""
    await pair.client.start_session(slug, agent="shell", prompt=script, directory=directory)
    ended = await turn_ends(pair, slug, 1)
    assert ended.turn_ended.exit_code == 0
    receipt = (await pair.client.stop(slug)).receipt
    await pair.client.wait(receipt)
    [told] = [e for e in await log(pair, slug) if e.WhichOneof("kind") == "artifacts_reported"]
    return told.artifacts_reported


async def _content(client: Client, slug: str, name: str, **more: int) -> bytes:
    return b"".join([piece async for piece in client.read_artifact(slug, name, **more)])


async def test_what_a_stopped_session_left_can_be_read_from_any_machine(tmp_path: Path) -> None:
    async with running_pair(tmp_path) as pair:
        told = await _stopped(
            pair,
            "x",
            "mkdir $BRIDLE_ARTIFACTS/deep; printf hello > $BRIDLE_ARTIFACTS/deep/report.md;"
            " : > $BRIDLE_ARTIFACTS/empty.json; echo done",
        )
        empty, report = sorted(told.artifacts, key=lambda artifact: artifact.size)
        assert (report.name, report.size, report.media_type) == (
            "deep/report.md",
            5,
            "text/markdown",
        )
        assert report.sha256 == hashlib.sha256(b"hello").hexdigest()
        assert (empty.name, empty.media_type) == ("empty.json", "application/json")
        assert (told.final_message, told.turns) == ("done\n", 1)
        assert told.last_stop_reason == event_pb2.STOP_REASON_COMPLETED

        assert await _content(pair.client, "x", "deep/report.md") == b"hello"
        assert await _content(pair.client, "x", "deep/report.md", run=1, offset=3) == b"lo"
        assert await _content(pair.client, "x", "deep/report.md", offset=5) == b""
        assert await _content(pair.client, "x", "deep/report.md", offset=99) == b""
        assert await _content(pair.client, "x", "empty.json") == b""
        for name, run in (("none", 0), ("deep", 0), ("deep/report.md", 2)):
            with pytest.raises(ArtifactNotFoundError):
                await _content(pair.client, "x", name, run=run)

        listed = await pair.cli("artifacts", "x")
        assert [line.split() for line in listed.out.splitlines()] == [
            ["NAME", "TYPE", "BYTES"],
            ["deep/report.md", "text/markdown", "5"],
            ["empty.json", "application/json", "0"],
        ]
        for words in (("artifacts",), ("session", "artifacts")):
            read = await pair.cli(*words, "x", "deep/report.md")
            assert (read.code, read.out, read.err) == (0, "hello", "")
        place = pair.work / "copy"
        read = await pair.cli("artifacts", "x", "deep/report.md", "--output", str(place))
        assert (read.code, read.out, place.read_text()) == (0, "", "hello")
        missing = await pair.cli("artifacts", "x", "none", "--output", str(pair.work / "no"))
        assert (missing.code, missing.out) == (3, "")
        assert missing.err == 'bridle: artifacts: NOT_FOUND: no artifact "none" of run 1\n'
        assert sorted(path.name for path in pair.work.iterdir()) == ["copy"]

        file = pair.runs / report_run(pair) / "artifacts" / "deep" / "report.md"
        file.write_text("other")
        read = await pair.cli("artifacts", "x", "deep/report.md")
        assert (read.code, read.out) == (0, "other")
        assert "changed since" in read.err


def report_run(pair: Pair) -> str:
    """The directory of the only run, from the directory of runs."""
    [run] = [path.parent for path in pair.runs.rglob("artifacts")]
    return str(run.relative_to(pair.runs))


async def test_each_run_keeps_its_own_artifacts_over_a_resume(tmp_path: Path) -> None:
    async with running_pair(tmp_path) as pair:
        await _stopped(pair, "x", "echo one > $BRIDLE_ARTIFACTS/a")
        await pair.client.resume("x", prompt="echo two > $BRIDLE_ARTIFACTS/a")
        await turn_ends(pair, "x", 2)
        assert await _content(pair.client, "x", "a") == b"one\n"
        await pair.client.wait((await pair.client.stop("x")).receipt)
        assert await _content(pair.client, "x", "a") == b"two\n"
        assert await _content(pair.client, "x", "a", run=1) == b"one\n"


async def test_a_stop_tells_what_became_of_a_git_directory(tmp_path: Path) -> None:
    git = "git -c user.name=a -c user.email=a@example.com"
    async with running_pair(tmp_path) as pair:
        place = pair.work / "repository"
        place.mkdir()
        made = await asyncio.create_subprocess_shell(
            f"git init -q -b main && printf 'a\\nb\\n' > kept && printf x > gone && git add . &&"
            f" {git} commit -qm first",
            cwd=place,
        )
        assert await made.wait() == 0
        told = await _stopped(
            pair,
            "x",
            f"git checkout -qb topic; printf 'a\\nc\\nd\\n' > kept; git add .;"
            f" {git} commit -qm 'second thought'; rm gone; mkdir new; echo 1 > new/file; head -c 9"
            " /dev/zero > blob; git add blob",
            directory=str(place),
        )
        report = told.git
        assert report.branch == "topic"
        assert [commit.subject for commit in report.commits] == ["second thought"]
        assert (report.commits[0].id, report.commit_count) == (report.head, 1)
        assert len(report.start_head) == 40
        assert report.start_head != report.head
        assert [
            (file.path, file.insertions, file.deletions, file.HasField("insertions"))
            for file in report.files
        ] == [
            ("blob", 0, 0, False),
            ("gone", 0, 1, True),
            ("kept", 2, 1, True),
            ("new/", 0, 0, False),
        ]
        assert [file.untracked for file in report.files] == [False, False, False, True]
        assert (report.file_count, report.insertions, report.deletions) == (4, 2, 2)
        listed = await pair.cli("artifacts", "x")
        assert f"git: topic at {report.head[:12]}, 1 new commits, 4 changed files (+2 -2)" in (
            listed.out.splitlines()
        )


async def test_artifacts_of_a_host_that_is_away_wait_for_its_return(tmp_path: Path) -> None:
    async with running_pair(tmp_path) as pair:
        await _stopped(pair, "x", "echo one > $BRIDLE_ARTIFACTS/a")
        await pair.end_host(signal.SIGKILL)

        async def refused() -> bool:
            try:
                await _content(pair.client, "x", "a")
            except BridleError as error:
                return error.reason == "HOST_UNREACHABLE"
            return False

        await until(refused, "the read is refused")
        told = await pair.cli("artifacts", "x", "a")
        assert (told.code, told.out) == (6, "")
        assert told.err.startswith("bridle: artifacts: UNAVAILABLE: the artifact's host is away")
        await pair.start_host()
        assert await _content(pair.client, "x", "a") == b"one\n"


async def test_a_read_that_a_lost_host_cuts_goes_on_where_it_was(tmp_path: Path) -> None:
    async with running_pair(tmp_path) as pair:
        told = await _stopped(pair, "x", "head -c 64M /dev/urandom > $BRIDLE_ARTIFACTS/a")
        got = bytearray()

        async def read() -> None:
            async for piece in pair.client.read_artifact("x", "a"):
                got.extend(piece)
                if len(got) == len(piece):
                    await pair.end_host(signal.SIGKILL)

        with pytest.raises(BridleError) as cut:
            await read()
        assert cut.value.reason == "HOST_UNREACHABLE"
        assert 0 < len(got) < 64 * MEGABYTE
        await pair.start_host()
        async for piece in pair.client.read_artifact("x", "a", offset=len(got)):
            got += piece
        assert hashlib.sha256(got).hexdigest() == told.artifacts[0].sha256


async def test_a_hundred_megabytes_pass_through_without_staying(tmp_path: Path) -> None:
    async with running_pair(tmp_path) as pair:
        told = await _stopped(pair, "x", "head -c 100M /dev/urandom > $BRIDLE_ARTIFACTS/a")
        before = _memory(pair)
        digest = hashlib.sha256()
        size = 0
        async for piece in pair.client.read_artifact("x", "a"):
            digest.update(piece)
            size += len(piece)
        assert size == 100 * MEGABYTE
        assert digest.hexdigest() == told.artifacts[0].sha256
        grown = [after - was for was, after in zip(before, _memory(pair), strict=True)]
        assert max(grown) < 40 * MEGABYTE, grown


async def test_a_reader_who_stops_reading_stops_the_host_and_one_who_leaves_lets_it_go(
    tmp_path: Path,
) -> None:
    async with running_pair(tmp_path) as pair:
        await _stopped(pair, "x", "head -c 200M /dev/zero > $BRIDLE_ARTIFACTS/a")
        assert pair.host is not None
        host = Path(f"/proc/{pair.host.pid}")
        reading = pair.client.read_artifact("x", "a")
        before = _read_so_far(host)
        await anext(reading)
        assert _is_open(host, "artifacts/a")

        last = -1
        async with asyncio.timeout(PATIENCE):
            while (now := _read_so_far(host)) != last or now - before < 2 * MEGABYTE:
                last = now
                await asyncio.sleep(0.5)  # (long enough for a host that goes on to be seen to)
        assert now - before < 64 * MEGABYTE
        assert _is_open(host, "artifacts/a")

        await reading.aclose()  # type: ignore[attr-defined]

        async def let_go() -> bool:
            return not _is_open(host, "artifacts/a")

        await until(let_go, "the host has let go of the file")


async def test_ten_readers_hold_up_neither_events_nor_an_interrupt(tmp_path: Path) -> None:
    async with running_pair(tmp_path) as pair:
        told = await _stopped(pair, "x", "head -c 30M /dev/urandom > $BRIDLE_ARTIFACTS/a")
        await pair.client.start_session("busy", agent="shell", prompt="while echo on; do :; done")

        async def floods() -> bool:
            return "tool_call_output" in kinds(await log(pair, "busy"))

        await until(floods, "the agent puts something out")

        through = asyncio.Event()

        async def read() -> set[str]:
            """Again and again, until the interrupt is through."""
            found = set()
            while not through.is_set():
                content = await _content(pair.client, "x", "a")
                found.add(hashlib.sha256(content).hexdigest())
            return found

        async with asyncio.TaskGroup() as tasks:
            readers = [tasks.create_task(read()) for _ in range(10)]
            async with _first(pair, "busy"):
                begin = time.monotonic()
                interrupted = await pair.client.interrupt("busy")
                await pair.client.wait(interrupted.receipt)
                took = time.monotonic() - begin
            through.set()
        for reader in readers:
            assert reader.result() == {told.artifacts[0].sha256}
        assert took < paced(5.0)
        await pair.kill_all()


@asynccontextmanager
async def _first(pair: Pair, slug: str) -> AsyncIterator[None]:
    """Once a watcher gets events that are made now."""
    session = await pair.client.get_session(slug)
    async with asyncio.timeout(PATIENCE):
        async for _ in pair.client.watch(slug, after_sequence=session.last_sequence):
            break
    yield


async def test_the_artifacts_of_a_deleted_session_are_removed_from_its_host(tmp_path: Path) -> None:
    async with running_pair(tmp_path) as pair:
        for slug in ("x", "y", "z"):
            await _stopped(pair, slug, "echo one > $BRIDLE_ARTIFACTS/a")
        kept = {slug: (await pair.client.get_session(slug)).session_id for slug in ("x", "y", "z")}

        async def gone(slug: str) -> bool:
            return not (pair.runs / kept[slug]).exists()

        await pair.client.delete_session("x")
        await until(lambda: gone("x"), "the host has removed what it kept")
        # What is deleted while its host is away goes when it comes back.
        await pair.end_host(signal.SIGKILL)
        await pair.client.delete_session("y")
        await pair.start_host()
        await until(lambda: gone("y"), "the host has heard of it")
        assert await _content(pair.client, "z", "a") == b"one\n"
        with pytest.raises(BridleError) as refused:
            await _content(pair.client, "y", "a")
        assert refused.value.reason == "SESSION_NOT_FOUND"


def _memory(pair: Pair) -> list[int]:
    """The memory that control and host take, in bytes."""
    assert pair.control is not None
    assert pair.host is not None
    page = os.sysconf("SC_PAGE_SIZE")
    processes = (pair.control.pid, pair.host.pid)
    return [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page for pid in processes]


def _read_so_far(process: Path) -> int:
    """What a process has read so far, in bytes."""
    [line] = [line for line in (process / "io").read_text().splitlines() if "rchar" in line]
    return int(line.split()[1])


def _is_open(process: Path, name: str) -> bool:
    for link in (process / "fd").iterdir():
        try:
            if os.readlink(link).endswith(name):
                return True
        except OSError:
            continue
    return False
