"""Each verb in each phase, over gRPC against the real pair: the answer that the contract tells.

The agent is `scripted`, which can be held in any phase. A cell is what the verb comes to: a reason
of an error, or the state and reason of the outcome, once it is decided or as far as it comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import pytest

from bridle.errors import BridleError
from bridle.v1 import event_pb2, input_pb2, receipt_pb2, session_pb2, watch_pb2
from tests.pair import PATIENCE, Pair, running_pair, until
from tests.scenarios.support import Gate, check_order, gate, log, reaches, turn_ends

STARTING, IDLE, RUNNING, WAITING, STOPPING, ENDED = (
    "STARTING",
    "IDLE",
    "RUNNING",
    "WAITING",
    "STOPPING",
    "ENDED",
)
PHASES = (STARTING, IDLE, RUNNING, WAITING, STOPPING, ENDED)

#: verb → (STARTING, IDLE, RUNNING, WAITING, STOPPING, ended).
CELLS: Mapping[str, tuple[str, str, str, str, str, str]] = {
    "send": (
        "PENDING QUEUED",
        "RAN TURN_STARTED",
        "PENDING QUEUED",
        "PENDING QUEUED",
        "SESSION_ENDING",
        "SESSION_ENDED",
    ),
    "send now": (
        "PENDING QUEUED",
        "RAN TURN_STARTED",
        "RAN TURN_STARTED",
        "RAN TURN_STARTED",
        "SESSION_ENDING",
        "SESSION_ENDED",
    ),
    "send steer": (
        "PENDING QUEUED",
        "RAN TURN_STARTED",
        "RAN STEERED",
        "RAN STEERED",
        "SESSION_ENDING",
        "SESSION_ENDED",
    ),
    "interrupt": (
        "RAN NO_TURN",
        "RAN NO_TURN",
        "RAN TURN_INTERRUPTED",
        "RAN TURN_INTERRUPTED",
        "RAN TURN_INTERRUPTED",
        "SESSION_ENDED",
    ),
    # In STARTING there has been no turn 1 yet.
    "interrupt an ended turn": (
        "RAN NO_TURN",
        "RAN TURN_ALREADY_ENDED",
        "RAN TURN_ALREADY_ENDED",
        "RAN TURN_ALREADY_ENDED",
        "RAN TURN_ALREADY_ENDED",
        "SESSION_ENDED",
    ),
    "stop": (
        "RAN DONE",
        "RAN DONE",
        "RAN DONE",
        "RAN DONE",
        "RAN ALREADY_STOPPING",
        "RAN ALREADY_ENDED",
    ),
    "kill": ("RAN DONE", "RAN DONE", "RAN DONE", "RAN DONE", "RAN DONE", "RAN ALREADY_ENDED"),
    "resume": (
        "SESSION_LIVE",
        "SESSION_LIVE",
        "SESSION_LIVE",
        "SESSION_LIVE",
        "SESSION_LIVE",
        "RAN DONE",
    ),
    "respond": (
        "APPROVAL_NOT_FOUND",
        "APPROVAL_NOT_FOUND",
        "APPROVAL_NOT_FOUND",
        "RAN DONE",
        "APPROVAL_NOT_FOUND",
        "APPROVAL_NOT_FOUND",
    ),
    "release queue": (
        "RAN DONE",
        "RAN DONE",
        "RAN DONE",
        "RAN DONE",
        "SESSION_ENDING",
        "SESSION_ENDED",
    ),
    "delete": (
        "SESSION_LIVE",
        "SESSION_LIVE",
        "SESSION_LIVE",
        "SESSION_LIVE",
        "SESSION_LIVE",
        "RAN DONE",
    ),
    "watch": ("seen", "seen", "seen", "seen", "seen", "replayed"),
}
#: Turn 1 is over wherever a cell names it, so what is on is turn 2.
SCRIPTS = {RUNNING: "silent", WAITING: "ask name=deploy -- may I", STOPPING: "silent"}


async def _bring(pair: Pair, slug: str, phase: str) -> None:
    """A session in a phase (not STARTING), with turn 1 over."""
    await pair.client.start_session(slug, agent="scripted", prompt="say first")
    await turn_ends(pair, slug, 1)
    if phase == ENDED:
        await pair.client.wait((await pair.client.stop(slug)).receipt)
        return
    if phase == IDLE:
        await reaches(pair, slug, session_pb2.PHASE_IDLE)
        return
    await pair.client.send(slug, SCRIPTS[phase])
    wanted = session_pb2.PHASE_WAITING if phase == WAITING else session_pb2.PHASE_RUNNING
    await reaches(pair, slug, wanted)
    if phase == STOPPING:
        await pair.client.stop(slug)
        await reaches(pair, slug, session_pb2.PHASE_STOPPING)


async def _decided(pair: Pair, receipt: receipt_pb2.Receipt, stays: bool) -> str:
    """The outcome of a receipt; one that stays in the queue is told as it is."""
    outcome = receipt.outcome
    if stays:

        async def queued() -> bool:
            nonlocal outcome
            outcome = (await pair.client.get_command(receipt.command_id)).outcome
            return outcome.reason == receipt_pb2.OUTCOME_REASON_QUEUED

        await until(queued, "its host has put it into the queue")
    else:
        outcome = (await pair.client.wait(receipt)).outcome
    state = receipt_pb2.OutcomeState.Name(outcome.state).removeprefix("OUTCOME_STATE_")
    reason = receipt_pb2.OutcomeReason.Name(outcome.reason).removeprefix("OUTCOME_REASON_")
    return f"{state} {reason}"


async def _watch(pair: Pair, slug: str) -> str:
    async for event in pair.client.watch(slug, until=watch_pb2.WATCH_UNTIL_RUN_END):
        if event.WhichOneof("kind") == "session_ended":
            return "replayed"
        if (await pair.client.get_session(slug)).last_sequence == event.sequence:
            return "seen"
    raise AssertionError("the watch ended without an end")


async def _ask(
    pair: Pair, slug: str, verb: str, stays: bool, taken: Callable[[], None] = lambda: None
) -> str:
    """What the verb comes to; `taken` is called before an outcome is waited for."""
    client = pair.client
    if verb == "watch":
        return await _watch(pair, slug)
    approvals = (await client.get_session(slug)).open_approvals
    calls: Mapping[str, Callable[[], Awaitable[receipt_pb2.Receipt]]] = {
        "send": lambda: _receipt(client.send(slug, "say more")),
        "send now": lambda: _receipt(client.send(slug, "say now", mode=input_pb2.INPUT_MODE_NOW)),
        "send steer": lambda: _receipt(
            client.send(slug, "say steered", mode=input_pb2.INPUT_MODE_STEER)
        ),
        "interrupt": lambda: _receipt(client.interrupt(slug)),
        "interrupt an ended turn": lambda: _receipt(client.interrupt(slug, turn=1)),
        "stop": lambda: _receipt(client.stop(slug, grace=0)),
        "kill": lambda: _receipt(client.kill(slug)),
        "resume": lambda: _receipt(client.resume(slug)),
        "respond": lambda: _receipt(
            client.respond(
                slug, approvals[0] if approvals else "none", event_pb2.APPROVAL_DECISION_ALLOW
            )
        ),
        "release queue": lambda: _receipt(client.release_queue(slug)),
        "delete": lambda: _receipt(client.delete_session(slug)),
    }
    try:
        receipt = await calls[verb]()
        if not stays:
            taken()
        return await _decided(pair, receipt, stays)
    except BridleError as error:
        return str(error.reason)


async def _receipt(call: Awaitable[object]) -> receipt_pb2.Receipt:
    receipt = (await call).receipt  # type: ignore[attr-defined]
    assert isinstance(receipt, receipt_pb2.Receipt)
    return receipt


@pytest.mark.parametrize("verb", CELLS)
async def test_a_verb_answers_in_each_phase_as_the_contract_says(verb: str, tmp_path: Path) -> None:
    async with running_pair(tmp_path) as pair, asyncio.timeout(2 * PATIENCE):
        with gate(tmp_path / "gate") as up:
            await _try_each_phase(pair, verb, up)


async def _try_each_phase(pair: Pair, verb: str, up: Gate) -> None:
    async def cell(phase: str, wanted: str) -> tuple[str, str]:
        slug = phase.lower()
        if phase == STARTING:
            return phase, await _in_starting(pair, up, verb, wanted)
        await _bring(pair, slug, phase)
        return phase, await _ask(pair, slug, verb, wanted == "PENDING QUEUED")

    wanted = dict(zip(PHASES, CELLS[verb], strict=True))
    found = dict(await asyncio.gather(*(cell(*row) for row in wanted.items())))

    assert found == wanted
    for phase in PHASES:
        if (verb, phase) != ("delete", ENDED):
            check_order(await log(pair, phase.lower()))


async def _in_starting(pair: Pair, up: Gate, verb: str, wanted: str) -> str:
    """An agent that comes up once it was asked for something."""
    slug = STARTING.lower()
    await pair.client.start_session(slug, agent="scripted", agent_command=f"ledger {up.path}")
    assert (await pair.client.get_session(slug)).phase == session_pb2.PHASE_STARTING
    # (A stop is done once its agent has come up and was told so.)
    answer = await _ask(pair, slug, verb, wanted == "PENDING QUEUED", up.open)
    up.open()
    if wanted == "PENDING QUEUED":

        async def consumed() -> bool:
            return (await pair.client.get_session(slug)).inputs_waiting == 0

        await until(consumed, "the input that was queued while STARTING is consumed")
    return answer
