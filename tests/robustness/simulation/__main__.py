"""Many seeds of the simulation: `make simulate SEEDS=10000`, or one again: `SEED=7 TRACE=1`.

    python -m tests.robustness.simulation [--seeds N] [--first N] [--safety] [--forgotten] [--trace]

Prints one line for each seed that breaks a law, and one line of figures at the end; exit code 1
when any did. The order of Python's sets depends on its hash seed, so that is fixed here: the same
seed gives the same trace in every process.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections import Counter

from tests.robustness.simulation.scenario import LawBrokenError, Story, Told
from tests.robustness.simulation.virtual import StuckError, run

HASH_SEED = "0"


def main() -> int:
    if os.environ.get("PYTHONHASHSEED") != HASH_SEED:
        words = [sys.executable, "-m", "tests.robustness.simulation", *sys.argv[1:]]
        os.execve(sys.executable, words, {**os.environ, "PYTHONHASHSEED": HASH_SEED})
    given = _parse()
    logging.disable(logging.CRITICAL)
    begin, broken = time.monotonic(), 0
    events = inputs = faults = 0
    outcomes: Counter[str] = Counter()
    for seed in range(given.first, given.first + given.seeds):
        told, error = _one(seed, liveness=not given.safety, forgotten=given.forgotten)
        if error:
            broken += 1
            print(f"simulate: {error}", flush=True)
        if given.trace:
            print("\n".join([*told.trace, f"hash {told.hash}"]))
        events, inputs = events + told.events, inputs + told.inputs
        faults += sum(told.faults.values())
        outcomes += told.outcomes
    said = ",".join(f"{name}:{number}" for name, number in sorted(outcomes.items()))
    print(
        f"simulate first={given.first} seeds={given.seeds} broken={broken} events={events}"
        f" inputs={inputs} faults={faults} commands={sum(outcomes.values())} ({said})"
        f" seconds={time.monotonic() - begin:.0f}"
    )
    return 1 if broken else 0


def _one(seed: int, *, liveness: bool, forgotten: bool) -> tuple[Told, str]:
    """What a seed came to, as far as it came, and what is wrong with it."""
    stories: list[Story] = []

    async def story() -> None:
        stories.append(Story(seed, forgotten=forgotten))
        await stories[0].tell(liveness)

    try:
        run(seed, story)
    except LawBrokenError as error:
        return stories[0].told, str(error)
    except StuckError:
        return stories[0].told, f"seed {seed}: nothing would ever happen again"
    return stories[0].told, ""


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="simulate", description="Control and hosts, on paper.")
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--safety", action="store_true", help="faults to the end")
    about = "hosts also lose their journals while their agents live on"
    parser.add_argument("--forgotten", action="store_true", help=about)
    parser.add_argument("--trace", action="store_true", help="print all that happened")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
