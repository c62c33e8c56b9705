"""Control's real links, commands and verbs, and the real session machines, under simulated faults.

The long form: `make simulate SEEDS=10000`.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from bridle.host.v1 import host_link_service_pb2 as wire
from bridle_control.links import registry
from bridle_control.links.welcome import Accepted, accept
from bridle_control.store.api import Tx
from tests.robustness.simulation.agent import Agent
from tests.robustness.simulation.scenario import LawBrokenError, simulate

#: Virtual seconds of faults; the long form has twice as many.
STORM = 20.0


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """What is logged about lost hosts is no news here."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("first", range(0, 140, 35))
def test_whatever_befell_them_all_is_well_within_a_minute_once_the_faults_are_over(
    first: int,
) -> None:
    events = inputs = 0
    for seed in range(first, first + 35):
        told = simulate(seed, storm=STORM)
        events, inputs = events + told.events, inputs + told.inputs
    # A run that was idle proves nothing.
    assert events > 35 * 50
    assert inputs > 35 * 5


@pytest.mark.parametrize("first", range(1000, 1060, 30))
def test_no_law_is_broken_at_any_step_while_the_faults_go_on(first: int) -> None:
    for seed in range(first, first + 30):
        simulate(seed, liveness=False, storm=STORM)


@pytest.mark.parametrize("first", range(460, 520, 30))
def test_no_law_is_broken_where_hosts_lose_their_journals_and_agents_live_on(first: int) -> None:
    for seed in range(first, first + 30):
        simulate(seed, forgotten=True)


def test_the_same_seed_tells_the_same_story_and_another_another() -> None:
    assert simulate(7).hash == simulate(7).hash != simulate(8).hash


@pytest.mark.parametrize("hashing", ["0", "2"])
def test_a_seed_tells_the_same_story_in_every_process(hashing: str) -> None:
    """Whatever strings hash to there, and so in whatever order sets have them."""
    tell = "print(__import__('tests.robustness.simulation.scenario', fromlist='_')"
    told = subprocess.run(
        [sys.executable, "-c", f"{tell}.simulate(6, storm={STORM}).hash)"],
        env={**os.environ, "PYTHONHASHSEED": hashing, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    assert told.stdout.decode().strip() == simulate(6, storm=STORM).hash


def many() -> None:
    for seed in range(40):
        simulate(seed, storm=STORM)


def test_the_laws_notice_a_control_that_forgets_what_a_host_has_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The simulation is proven, too: entries that come again are stored twice here."""

    def forgetful(tx: Tx, host_id: str, hello: wire.Hello) -> Accepted:
        return replace(accept(tx, host_id, hello), high_water=max(0, hello.journal_floor - 1))

    monkeypatch.setattr(registry, "accept", forgetful)
    with pytest.raises(LawBrokenError):
        many()


def test_the_laws_notice_an_agent_that_does_an_order_twice_which_came_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Agent, "_first", lambda self, what, which: not self.dead)
    with pytest.raises(LawBrokenError, match="ran 2 times"):
        many()
