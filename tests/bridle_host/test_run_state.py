"""What is kept of a live run, as a value and as text."""

from __future__ import annotations

import json

import pytest

from bridle_core.commands import RunSpec
from bridle_core.observations import Capability, ResumeMode
from bridle_core.phases import Policy
from bridle_core.session import Session
from bridle_host.run_state import RunState

STEER, IMAGES = Capability.STEER, Capability.IMAGES


def state(resume: ResumeMode | None = None) -> RunState:
    spec = RunSpec(
        "start",
        "shell",
        agent_version="5.2",
        directory="/work",
        containment="SUBREAPER",
        capabilities=frozenset({STEER, IMAGES}),
        last_turn=4,
        resume=resume,
    )
    output = {"written": 3, "dropped": 0, "tails": [["t", "STDOUT", "c3"]]}
    return RunState(spec, Session(spec).record(), b"\x00\xff", 1 << 40, output)


@pytest.mark.parametrize("resume", [None, ResumeMode.AUTO])
def test_what_is_kept_of_a_run_is_read_again(resume: ResumeMode | None) -> None:
    kept = state(resume)
    assert RunState.load(kept.dump()) == kept


def test_a_state_of_an_older_version_is_read_with_what_it_lacks_left_empty() -> None:
    written = json.loads(state().dump())
    for later in ("agent_version", "directory", "containment", "capabilities"):
        del written[later]
    for later in ("driver", "acknowledge", "output"):
        del written[later]
    read = RunState.load(json.dumps(written).encode())
    assert (read.driver, read.acknowledge, read.output) == (b"", 0, {})
    assert read.spec == RunSpec("start", "shell", last_turn=4)


def test_a_capability_of_a_newer_version_is_left_out() -> None:
    written = json.loads(state().dump())
    written["capabilities"].append("TELEPATHY")
    assert RunState.load(json.dumps(written).encode()) == state()


def test_the_spec_of_the_start_is_completed_by_what_was_true_then() -> None:
    policy = Policy(start_timeout=1.0)
    now = RunSpec("start", "shell", "6.0", "host", "/elsewhere", "", frozenset({STEER}), policy)
    spec = state().completed(now)
    assert (spec.agent_version, spec.directory, spec.containment) == ("5.2", "/work", "SUBREAPER")
    assert (spec.host_id, spec.policy) == ("host", policy)
    assert spec.capabilities == {STEER}


@pytest.mark.parametrize(
    "text", [b"", b"{}", b"[]", b'{"start_command": "s", "agent": "a"}', b"\xff", b"null"]
)
def test_what_is_no_state_of_a_run_is_found_out(text: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any of them, that is the contract
        RunState.load(text)
