"""The leak checks are themselves proven: each kind of leak turns its test red, and nothing else."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import threading
import time
import weakref
from pathlib import Path

import pytest

from tests.support.leaks import AsyncioWatch, Process, ProcessTable, live_threads

ROOT = Path(__file__).resolve().parents[2]

LEAKY = """
import asyncio
import os
import subprocess
import sys
import threading
import warnings

import pytest

KEEP = []
NOTE = os.environ["PIDS_TO_KILL"]


def note(pid):
    with open(NOTE, "a") as file:
        file.write(f"{pid}\\n")


def test_clean():
    subprocess.run(["true"], check=True)


async def test_clean_async():
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(0))


async def test_leaks_a_task():
    KEEP.append(asyncio.get_running_loop().create_task(asyncio.sleep(3600)))


async def test_leaks_an_exception():
    async def fail():
        raise ValueError("nobody asked")

    task = asyncio.get_running_loop().create_task(fail())
    await asyncio.wait([task])


def test_leaks_a_thread():
    threading.Thread(target=threading.Event().wait, daemon=True).start()


def test_leaks_a_descriptor():
    KEEP.append(os.pipe())


def test_leaks_a_child():
    KEEP.append(subprocess.Popen(["sleep", "600"]))
    note(KEEP[-1].pid)


def test_leaks_a_zombie():
    pid = os.posix_spawn("/bin/true", ["true"], os.environ)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


DAEMON = "sleep 600 & echo $!"


def test_leaks_a_daemon():
    done = subprocess.run(
        ["setsid", "sh", "-c", DAEMON + "; exec >&-"], stdout=open(NOTE, "a"), check=True
    )


def test_leaks_a_process_of_a_session(tmp_path):
    subprocess.run(
        ["setsid", "sh", "-c", DAEMON],
        cwd=tmp_path,
        stdout=open(NOTE, "a"),
        env={"PATH": os.environ["PATH"], "BRIDLE_SESSION_MARK": "abc"},
        check=True,
    )


SHIM = [sys.executable, "-c", "import time; time.sleep(600)"]


def test_leaks_a_shim(tmp_path):
    # Its parent tells its number: it would itself long after this test, or not before the end.
    subprocess.run(
        ["setsid", "sh", "-c", '"$@" & echo $!', "sh", *SHIM, f"--state={tmp_path}"],
        stdout=open(NOTE, "a"),
        env={"PATH": os.environ["PATH"]},
        check=True,
    )


@pytest.fixture(scope="module")
def shared():
    ends = os.pipe()
    yield
    os.close(ends[0])
    os.close(ends[1])


def test_uses_a_shared_fixture(shared):
    pass


def test_uses_it_again(shared):
    pass
"""

RED = {
    "test_leaks_a_task": "task: ",
    "test_leaks_an_exception": "asyncio error: ",
    "test_leaks_a_thread": "thread: ",
    "test_leaks_a_descriptor": "file descriptor: ",
    "test_leaks_a_child": "process: ",
    "test_leaks_a_zombie": "process: ",
    "test_leaks_a_daemon": "process: ",
    "test_leaks_a_process_of_a_session": "process: ",
    "test_leaks_a_shim": "process: ",
}


def run_inner(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, *arguments: str
) -> pytest.RunResult:
    """Run pytest with the leak checks in a process of its own."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makeconftest('pytest_plugins = ["tests.support.leaks"]')
    pytester.makeini("[pytest]\nasyncio_mode = auto\nleak_grace = 0.2\n")
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", *arguments)


def test_every_kind_of_leak_turns_its_own_test_red(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    note = tmp_path / "pids"
    note.touch()
    monkeypatch.setenv("PIDS_TO_KILL", str(note))
    pytester.makepyfile(LEAKY)
    try:
        result = run_inner(pytester, monkeypatch)
    finally:
        for pid in note.read_text().split():
            os.kill(int(pid), signal.SIGKILL)
    text = result.stdout.str()
    sections = text.split("ERROR at teardown of ")[1:]
    found = {section.split()[0]: section for section in sections}
    assert found.keys() == RED.keys(), text
    for name, kind in RED.items():
        assert f"  {kind}" in found[name], found[name]
    result.assert_outcomes(passed=13, errors=len(RED))


@pytest.mark.parametrize(
    ("place", "more", "ours"),
    [
        ("run/gw0/work", {}, True),
        ("run/gw0", {}, True),
        ("run/gw1/work", {}, False),
        ("run/gw01", {}, False),
        ("another-run/work", {}, False),
        ("elsewhere", {"BRIDLE_TOKEN_FILE": "run/gw0/home/token"}, True),
    ],
)
def test_an_orphan_is_that_workers_in_whose_room_it_is(
    tmp_path: Path, place: str, more: dict[str, str], ours: bool
) -> None:
    table = ProcessTable("nobody's guard")
    table.room = f"{tmp_path}/run/gw0/"
    (tmp_path / place).mkdir(parents=True)
    known = {name: f"{tmp_path}/{path}" for name, path in more.items()}
    born = subprocess.run(
        ["setsid", "sh", "-c", "sleep 600 >&- & echo $!"],
        cwd=tmp_path / place,
        env={"PATH": os.environ["PATH"], "BRIDLE_SESSION_MARK": "abc", **known},
        stdout=subprocess.PIPE,
        check=True,
    )
    pid = int(born.stdout)
    try:
        assert (pid in {thing.identity[0] for thing in table.ours()}) is ours
    finally:
        os.kill(pid, signal.SIGKILL)


def test_a_process_that_is_becoming_another_program_is_nobodys_until_it_tells_whose(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It has no variables for that moment, and what was somebody else's once is not read again."""
    table = ProcessTable("nobody's guard")
    born = subprocess.run(
        ["setsid", "sh", "-c", "sleep 600 >&- & echo $!"],
        env={"PATH": os.environ["PATH"], "BRIDLE_SESSION_MARK": "abc"},
        stdout=subprocess.PIPE,
        check=True,
    )
    pid, silent = int(born.stdout), iter(range(9))
    told = Process._told

    def _told(process: Process, name: str) -> bytes:
        nothing = process.pid == pid and next(silent, None) is not None
        return b"" if nothing else told(process, name)

    monkeypatch.setattr(Process, "_told", _told)
    try:
        assert pid in {thing.identity[0] for thing in table.ours()}
    finally:
        os.kill(pid, signal.SIGKILL)


def test_a_skipped_test_fails_the_run_where_skips_are_refused(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile("import pytest\n\ndef test_a():\n    pytest.skip('not today')\n")
    assert run_inner(pytester, monkeypatch).ret == 0
    assert run_inner(pytester, monkeypatch, "--no-skips").ret == 1


def test_a_thread_that_was_seen_lends_its_place_in_memory_to_no_later_one() -> None:
    """Else a thread that was on its way out, and one that began then, could count as the same."""
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    before = weakref.ref(thread)
    thread.start()
    seen = live_threads()
    end.set()
    thread.join()
    del thread
    gc.collect()
    assert before() is not None
    del seen
    gc.collect()
    assert before() is None


def test_a_task_on_its_way_out_has_time_although_all_stood_still_for_a_moment() -> None:
    async def last_words() -> None:
        time.sleep(0.4)  # noqa: ASYNC251 (as a machine does that others use)
        await asyncio.sleep(0.01)

    watch = AsyncioWatch(grace=30.0)
    watch._cancel_all = lambda loop: None
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        task = loop.create_task(last_words())
        watch._before_cancel_all(loop)
        assert watch.take() == set()
        assert task.done()
