"""A host that lies: what it says of sessions that are not its own is neither stored nor shown."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from bridle.host.v1 import host_link_service_pb2 as wire
from bridle.v1 import (
    content_pb2,
    event_pb2,
    input_pb2,
    receipt_pb2,
    session_pb2,
    watch_pb2,
)
from bridle_control.store.api import Tx
from bridle_control.tokens import hash_secret
from tests.bridle_control.stack import Stack
from tests.fakes.host import RAN, FakeHost
from tests.support.pace import paced

CANARY = "forged-by-another-host"


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    async with Stack(tmp_path / "store") as running:
        yield running


def forgeries(rng: random.Random, victim: session_pb2.Session, command_id: str) -> list[Any]:
    """Entries of a journal about somebody else's session."""
    text = [content_pb2.Content(text=CANARY)]
    events = [
        event_pb2.Event(agent_message=event_pb2.AgentMessage(content=text)),
        event_pb2.Event(
            phase_changed=event_pb2.PhaseChanged(to=session_pb2.PHASE_RUNNING),
        ),
        event_pb2.Event(turn=7, turn_started=event_pb2.TurnStarted()),
        event_pb2.Event(
            input_queued=event_pb2.InputQueued(
                input_id="forged", content=text, mode=input_pb2.INPUT_MODE_NOW
            )
        ),
        event_pb2.Event(approval_requested=event_pb2.ApprovalRequested(approval_id=CANARY)),
        event_pb2.Event(
            session_ended=event_pb2.SessionEnded(
                phase=session_pb2.PHASE_KILLED, verified=True, message=CANARY
            )
        ),
    ]
    kinds: dict[str, Any] = {
        field.name: field.number for field in event_pb2.Event.DESCRIPTOR.fields
    }
    made: list[Any] = []
    for event in rng.sample(events, len(events)):
        entry = wire.EventEntry(
            kind=kinds[str(event.WhichOneof("kind"))], event=event.SerializeToString()
        )
        made.append({"event": entry})
    outcome = receipt_pb2.Outcome(state=RAN, message=CANARY)
    made.append({"command": wire.CommandEntry(command_id=command_id, outcome=outcome)})
    made.append({"driver_state": wire.DriverStateEntry(state=CANARY.encode())})
    rng.shuffle(made)
    return [
        wire.Record(session_id=victim.session_id, run=run, **entry)
        for entry in made
        for run in (victim.run, victim.run + 1)
    ]


async def test_what_a_host_publishes_for_a_session_of_another_is_not_stored(stack: Stack) -> None:
    honest, liar = await stack.host("honest"), await stack.host("liar")
    victim = await stack.start(honest, "victim", host="honest")
    receipt, deliver = await stack.send(honest, victim)
    before = (
        await stack.session(victim.session_id),
        await stack.events(victim.session_id),
        await stack.command(deliver.command_id),
    )
    own = await stack.start(liar, "own", host="liar")
    for seed in range(5):
        for record in forgeries(random.Random(seed), victim, deliver.command_id):
            liar.journaled(record)
        await liar.synced()
    # In its inventory as well, over a new connection; and what is its own is still taken.
    lie = wire.LiveSession(session_id=victim.session_id, run=victim.run)
    liar.inventory[victim.session_id] = lie
    await liar.connect()
    await stack.until(lambda: stack.links.is_live(liar.host_id))
    killed = [stale.session_id for stale in liar.reconciles[-1].kill]
    assert killed == [victim.session_id]
    for record in forgeries(random.Random(9), victim, deliver.command_id):
        liar.journaled(record)
    liar.live_text(victim.session_id, victim.run, 1, "m", CANARY)
    text = [content_pb2.Content(text="true")]
    liar.event(own.session_id, own.run, agent_message=event_pb2.AgentMessage(content=text))
    await liar.synced()
    after = (
        await stack.session(victim.session_id),
        await stack.events(victim.session_id),
        await stack.command(deliver.command_id),
    )
    assert after == before
    assert CANARY not in str(after)
    assert "true" in str(await stack.events(own.session_id))
    assert receipt.command_id


async def test_live_text_for_a_session_of_another_host_is_not_shown(stack: Stack) -> None:
    honest, liar = await stack.host("honest"), await stack.host("liar")
    victim = await stack.start(honest, "victim", host="honest")
    own = await stack.start(liar, "own", host="liar")
    watch = watch_pb2.WatchRequest(live_text=True)
    watch.targets.add(tail=1).session.id = victim.session_id
    call = stack.sessions.Watch(watch, metadata=stack.admin)
    await call.read()
    for run in (victim.run, victim.run + 1):
        liar.live_text(victim.session_id, run, 1, "m", CANARY)
    # Behind it on the same stream, so that it was looked at by then.
    liar.event(own.session_id, own.run, agent_message=event_pb2.AgentMessage())
    await liar.synced()
    text = [content_pb2.Content(text="the end")]
    honest.event(victim.session_id, victim.run, agent_message=event_pb2.AgentMessage(content=text))
    told = ""
    while "the end" not in told:
        told += str(await call.read())
    call.cancel()
    assert CANARY not in told


async def test_the_link_of_a_host_ends_with_its_credential_and_nothing_after_is_stored(
    stack: Stack,
) -> None:
    host = await stack.host("leaving")
    session = await stack.start(host, "orphan")
    await stack.store.write(lambda tx: _take_away(tx, host.credential))
    began = time.monotonic()
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await _publish_until_refused(stack, host, session)
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert time.monotonic() - began < paced(5)
    count = len(await stack.events(session.session_id))
    with pytest.raises(grpc.aio.AioRpcError):
        await host.connect()
    assert len(await stack.events(session.session_id)) == count


async def _publish_until_refused(
    stack: Stack, host: FakeHost, session: session_pb2.Session
) -> None:
    while True:
        host.event(session.session_id, session.run, agent_message=event_pb2.AgentMessage())
        await host.synced()
        await stack.open_calls.look()


def _take_away(tx: Tx, secret: str) -> None:
    row = tx.token_by_hash(hash_secret(secret))
    assert row is not None
    tx.revoke_token(row.token_id)
