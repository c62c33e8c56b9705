"""Switches off one protection after the other, and looks whether its test turns red.

    make protections                  all of them
    make protections ONLY=fence       those whose name holds the word

A check that cannot fail is a defect. So each row of `protections_table.py` takes one protection out
of the source, in a copy of the repository, and runs the test that is to notice. A row is proved
when that test passes with the protection and fails without it: fails by itself, in its body. A test
that can't be collected, or whose set-up breaks, proves nothing, nor does a source that is no longer
Python. Nothing in the product can be switched off: the source is changed, a line or two, as a
careless hand would.

`test_protections.py` holds the table against the source, so that no row is about code that is gone.
"""

from __future__ import annotations

import argparse
import ctypes
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.robustness.protections_table import PROTECTIONS, Protection
from tests.support.leaks import Process

ROOT = Path(__file__).resolve().parents[2]
#: Rows that are proved at the same time; each has a copy of the repository for itself.
SIDE_BY_SIDE = 2
#: Seconds that one run of a row's test may take.
PATIENCE = 240.0
_SET_CHILD_SUBREAPER = 36
#: What an edit raises that broke the source rather than the protection.
_NONSENSE = re.compile(
    r"\b(SyntaxError|IndentationError|NameError|UnboundLocalError|ImportError|ModuleNotFoundError)\b"
)


@dataclass(frozen=True, slots=True)
class Ran:
    """One run of a test. `said`: the first line of what it failed with."""

    code: int
    failed: bool
    said: str
    output: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a row. `problem`: why it proves nothing; "" when it does."""

    protection: Protection
    problem: str
    said: str
    seconds: float


# --- one row -------------------------------------------------------------------------------------


def prove(protection: Protection, tree: Path) -> Verdict:
    """Runs the row's test in the copy, with the protection and without it."""
    begin = time.monotonic()
    try:
        problem, said = _problem(protection, tree)
    except subprocess.TimeoutExpired:
        problem, said = f"no end within {PATIENCE:.0f} s", ""
    return Verdict(protection, problem, said, time.monotonic() - begin)


def _problem(protection: Protection, tree: Path) -> tuple[str, str]:
    file = tree / protection.file
    text = file.read_text(encoding="utf-8")
    if text.count(protection.before) != 1:
        return "what it would change does not stand exactly once in the source", ""
    changed = text.replace(protection.before, protection.after)
    try:
        compile(changed, protection.file, "exec", dont_inherit=True)
    except SyntaxError as error:
        return f"the source is no Python any more: {error}", ""
    ran = run_test(tree, protection.test)
    if ran.code != 0:
        return f"not green although nothing was changed: {ran.said or ran.output[-300:]}", ""
    file.write_text(changed, encoding="utf-8")
    try:
        ran = run_test(tree, protection.test)
    finally:
        file.write_text(text, encoding="utf-8")
    if ran.code == 0:
        return "green without the protection", ""
    if ran.code != 1 or not ran.failed:
        return f"it did not fail but break (pytest: {ran.code}): {ran.output[-300:]}", ""
    if _NONSENSE.search(ran.said):
        return f"the edit broke more than the protection: {ran.said}", ""
    return "", ran.said


def run_test(tree: Path, test: str) -> Ran:
    """Runs one test of the copy by itself. Raises subprocess.TimeoutExpired."""
    name, _, chosen = test.partition(" -k ")
    with tempfile.TemporaryDirectory(prefix="t", dir=tree.parent) as directory:
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", name]
        command += ["--basetemp", f"{directory}/t", *(("-k", chosen) if chosen else ())]
        source = os.pathsep.join(str(tree / part) for part in ("services", "clients/python", "."))
        environment = {**os.environ, "PYTHONPATH": source, "PYTHONDONTWRITEBYTECODE": "1"}
        # Wide enough that no line of the summary is cut.
        environment["COLUMNS"] = "400"
        try:
            done = subprocess.run(
                command,
                cwd=tree,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=PATIENCE,
                check=False,
            )
        finally:
            # Without its protection a test may leave a fork bomb.
            _end_descendants()
    output = done.stdout + done.stderr
    summary = [line for line in output.splitlines() if line.startswith(f"FAILED {name}")]
    said = summary[0].partition(" - ")[2] if summary else ""
    return Ran(done.returncode, bool(summary), said.strip(), output)


# --- a place to do it in -------------------------------------------------------------------------

_tree: Path


def _settle(directory: str) -> None:
    """In a new worker: a copy of its own, and all that is left behind becomes its child."""
    global _tree
    ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    _tree = Path(tempfile.mkdtemp(prefix="w", dir=directory), "tree")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    for name in filter(None, tracked.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (_tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, _tree / name)


def _prove_here(protection: Protection) -> Verdict:
    return prove(protection, _tree)


def _end_descendants() -> None:
    """Kills and reaps what a test has left, until there is nothing."""
    while found := _descendants(os.getpid()):
        for process in found:
            with suppress(OSError):
                os.kill(process.pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.01)


def _descendants(pid: int) -> list[Process]:
    beneath: dict[int, list[Process]] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        if (process := Process.read(int(name))) is not None:
            beneath.setdefault(process.parent, []).append(process)
    found, todo = [], [pid]
    while todo:
        children = beneath.get(todo.pop(), [])
        found += children
        todo += [child.pid for child in children]
    return found


@contextmanager
def _workers() -> Iterator[ProcessPoolExecutor]:
    with tempfile.TemporaryDirectory(prefix="bridle-protections-") as directory:
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(SIDE_BY_SIDE, context, _settle, (directory,))
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)


# --- all of them ---------------------------------------------------------------------------------


def main() -> int:
    """Proves the rows, printing a line or two for each. Returns 1 when one is not proved."""
    parser = argparse.ArgumentParser(description="Switch off each protection in turn.")
    parser.add_argument("--only", default="", help="rows whose name holds this")
    only = parser.parse_args().only.lower()
    chosen = [row for row in PROTECTIONS if only in row.name.lower()]
    if not chosen:
        print(f'no protection has "{only}" in its name', file=sys.stderr)
        return 1
    begin = time.monotonic()
    failed = []
    with _workers() as pool:
        for future in as_completed([pool.submit(_prove_here, row) for row in chosen]):
            verdict = future.result()
            _tell(verdict)
            if verdict.problem:
                failed.append(verdict.protection.name)
    print(
        f"{len(chosen) - len(failed)} of {len(chosen)} protections are proved: switched off, each "
        f"turned its test red ({time.monotonic() - begin:.0f} s)"
    )
    for name in failed:
        print(f"NOT PROVED: {name}")
    return 1 if failed else 0


def _tell(verdict: Verdict) -> None:
    row = verdict.protection
    word = "NOT PROVED" if verdict.problem else "red"
    print(f"{word:<4} {row.name} ({verdict.seconds:.0f} s)\n     {row.test}")
    print(f"     {(verdict.problem or verdict.said)[:160]}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
