"""The soak in short: real processes, real faults, the whole verdict. The long form: `make soak`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.robustness.soak.plan import DECK, Fault, Shape, plan
from tests.robustness.soak.run import soak


def small(seed: int, **changes: object) -> Shape:
    shape = Shape(
        seed=seed,
        seconds=12.0,
        hosts=3,
        sessions=8,
        clients=3,
        watchers=3,
        faults=8,
        rate=7.0,
        least_events=30.0,
        longest=3.0,
    )
    return Shape(**{**shape.__dict__, **changes})


@pytest.mark.timeout(400)
@pytest.mark.parametrize("seed", [1])
async def test_nothing_is_lost_nothing_runs_twice_and_nothing_is_left_whatever_breaks(
    seed: int, tmp_path: Path
) -> None:
    report = await soak(small(seed), tmp_path)
    print(report.line)
    assert report.wrong == []


async def test_a_soak_in_which_nothing_happens_is_wrong(tmp_path: Path) -> None:
    shape = small(1, seconds=1.0, faults=0, hosts=1, sessions=2, rate=0.1, least_events=100.0)
    report = await soak(shape, tmp_path)
    assert any(each.startswith("idle: ") for each in report.wrong), report.wrong


def test_a_plan_is_the_same_by_its_seed_and_leaves_no_kind_of_fault_out() -> None:
    shape = small(3, faults=60)
    assert plan(shape) == plan(shape) != plan(small(4, faults=60))
    assert {planned.fault for planned in plan(shape)} == set(DECK) == set(Fault)
    assert all(0 < planned.at < shape.seconds for planned in plan(shape))
