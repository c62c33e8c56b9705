"""The command line of the soak: `make soak SEED=… MINUTES=…`.

    python -m tests.robustness.soak [--seed N] [--minutes M] [--hosts N] [--sessions N]
        [--faults N] [--rate N] [--without KIND,…] [--keep DIR]

Ends with one line of figures. Exit code 1 when anything is off; then its directory stays: the
plan, the faults with their times, the services' logs, the store, the agents' ledgers, every
request with what was said about it.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.robustness.soak.plan import Fault, Shape, plan
from tests.robustness.soak.run import Report, soak


def main() -> int:
    given = _parse()
    shape = Shape(
        seed=given.seed,
        seconds=given.minutes * 60,
        hosts=given.hosts,
        sessions=given.sessions,
        faults=given.faults or max(12, round(given.minutes * 6)),
        rate=given.rate,
        longest=min(20.0, max(3.0, given.minutes * 4)),
        without=frozenset(Fault(each) for each in given.without.split(",") if each),
    )
    print(f"soak: seed {shape.seed}, {given.minutes:g} minutes, {shape.faults} faults", flush=True)
    directory = given.keep or Path(tempfile.mkdtemp(prefix="bridle-soak-"))
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "plan").write_text("".join(f"{each.at:8.2f} {each}\n" for each in plan(shape)))
    begin = time.monotonic()

    def progress(text: str) -> None:
        print(f"soak: {time.monotonic() - begin:6.1f} {text}", flush=True)

    try:
        report = asyncio.run(soak(shape, directory, progress))
    except Exception:
        print(f"soak: broken off; see {directory}", file=sys.stderr)
        raise
    return _finish(report, directory, keep=given.keep is not None)


def _finish(report: Report, directory: Path, *, keep: bool) -> int:
    if report.wrong:
        (directory / "wrong").write_text("".join(f"{each}\n" for each in report.wrong))
        for each in report.wrong[:40]:
            print(f"soak: {each}")
        print(f"soak: {len(report.wrong)} things are wrong; see {directory}")
    elif not keep:
        shutil.rmtree(directory)
    print(report.line, flush=True)
    return 1 if report.wrong else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="soak", description="Breaks a real pair, by a seed.")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--hosts", type=int, default=20)
    parser.add_argument("--sessions", type=int, default=50)
    parser.add_argument("--faults", type=int, default=0, help="default: six a minute")
    parser.add_argument("--rate", type=float, default=14.0, help="requests a second")
    parser.add_argument("--without", default="", help="kinds of faults to leave out")
    parser.add_argument("--keep", type=Path, default=None, help="work in this directory")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
