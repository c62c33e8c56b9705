"""The client against the real pair: each group of calls, retries, and the synchronous form."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
import pytest_asyncio
from grpc import ChannelConnectivity

import bridle
from bridle import Client, SyncClient, by_id
from bridle.retry import Backoff, RetryPolicy
from bridle.v1 import event_pb2, input_pb2, receipt_pb2, session_pb2, watch_pb2
from tests.client.scripted_server import Failure, Silence, events, progress, serving
from tests.pair import PATIENCE, Pair, running_pair
from tests.robustness.fault_proxy import fault_proxy

pytestmark = pytest.mark.asyncio(loop_scope="module")
DECIDED = receipt_pb2.OUTCOME_STATE_RAN
#: Seconds: five tries of a call are over within two, where nobody is there.
PAUSE = 4.0


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def pair(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    async with running_pair(tmp_path_factory.mktemp("pair")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def nothing_stays(pair: Pair) -> AsyncIterator[None]:
    yield
    await pair.kill_all()


async def test_a_session_from_its_start_to_its_deletion(pair: Pair) -> None:
    client = pair.client
    started = await client.start_session(
        "whole",
        agent="shell",
        prompt="export NAME=value",
        labels={"team": "core"},
        environment={"GIVEN": "yes"},
        policy=session_pb2.SessionPolicy(after_interrupt=session_pb2.AFTER_INTERRUPT_HOLD),
    )
    session = by_id(started.session.session_id)
    sent = await client.send(session, "echo $NAME $GIVEN; sleep 72")
    assert (await client.wait(sent.receipt)).outcome.turn == 2
    queued = await client.send("whole", "echo third")
    inputs = [item async for item in client.list_inputs("whole", "state = WAITING")]
    assert [item.input_id for item in inputs] == [queued.receipt.input_id]
    hit = await client.interrupt(session, turn=2)
    assert (await client.wait(hit.receipt)).outcome.reason == (
        receipt_pb2.OUTCOME_REASON_TURN_INTERRUPTED
    )
    found = await client.get_session("whole")
    assert found.queue_state == session_pb2.QUEUE_STATE_HELD
    cancelled = await client.cancel_input("whole", queued.receipt.input_id)
    assert (await client.wait(cancelled.receipt)).outcome.state == DECIDED
    released = await client.release_queue("whole")
    assert (await client.wait(released.receipt)).outcome.state == DECIDED
    changed = await client.update_session("whole", title="a title", labels={})
    assert (changed.session.title, dict(changed.session.labels)) == ("a title", {})
    stopped = await client.stop("whole")
    assert (await client.wait(stopped.receipt)).outcome.state == DECIDED
    with pytest.raises(bridle.SessionEndedError):
        await client.send("whole", "too late")
    await client.resume("whole", mode=event_pb2.RESUME_MODE_SEEDED, prompt="echo $NAME")
    with pytest.raises(bridle.SessionLiveError):
        await client.delete_session("whole")
    killed = await client.kill("whole")
    await client.wait(killed.receipt)
    kinds = [event.WhichOneof("kind") async for event in client.list_events("whole")]
    assert kinds.count("session_ended") == 2
    await client.delete_session("whole")
    with pytest.raises(bridle.SessionNotFoundError) as raised:
        await client.get_session("whole")
    assert raised.value.metadata == {"workspace": "default", "session": "whole"}


async def test_a_request_that_is_sent_again_has_one_effect_and_one_receipt(pair: Pair) -> None:
    await pair.client.start_session("once", agent="shell")
    request_id = bridle.uuid7()
    first = await pair.client.send("once", "echo x", request_id=request_id)
    second = await pair.client.send("once", "echo x", request_id=request_id)
    assert second.receipt.input_id == first.receipt.input_id
    with pytest.raises(bridle.RequestIdReusedError):
        await pair.client.send("once", "echo y", request_id=request_id)
    looked_up = await pair.client.get_command(request_id=request_id)
    assert looked_up.command_id == first.receipt.command_id


async def test_now_comes_before_what_waits(pair: Pair) -> None:
    await pair.client.start_session("now", agent="shell", prompt="sleep 73")
    async for event in pair.client.watch("now"):
        if event.HasField("turn_started"):
            break
    await pair.client.send("now", "echo later")
    sent = await pair.client.send("now", "echo first", mode=input_pb2.INPUT_MODE_NOW)
    assert (await pair.client.wait(sent.receipt)).outcome.turn == 2


async def test_watching_the_workspace_shows_a_snapshot_and_then_changes(pair: Pair) -> None:
    await pair.client.start_session("seen", agent="shell")
    stream = pair.client.watch_sessions("slug = seen")
    async with asyncio.timeout(PATIENCE):
        assert (await anext(stream)).session.slug == "seen"
        assert (await anext(stream)).WhichOneof("response") == "snapshot_end"
        await pair.client.kill("seen")
        async for message in stream:
            if message.session.phase == session_pb2.PHASE_KILLED:
                break
        await pair.client.delete_session("seen")
        async for message in stream:
            if message.WhichOneof("response") == "removed":
                assert message.removed.slug == "seen"
                break
    await stream.aclose()


async def test_several_sessions_are_watched_over_one_stream(pair: Pair) -> None:
    for slug in ("one", "two"):
        await pair.client.start_session(slug, agent="shell", prompt=f"echo {slug}")
        await pair.client.stop(slug)
    told: dict[str, list[int]] = {}
    async with asyncio.timeout(PATIENCE):
        async for update in pair.client.watch_many(["one", "two"]).updates():
            if isinstance(update.item, event_pb2.Event):
                told.setdefault(update.session_id, []).append(update.item.sequence)
    assert len(told) == 2
    for sequences in told.values():
        assert sequences == list(range(1, len(sequences) + 1))


async def test_hosts_identity_and_health(pair: Pair) -> None:
    client = pair.client
    assert [host.name async for host in client.list_hosts()] == ["here"]
    assert "shell" in [agent.agent async for agent in client.list_agents("installed = true")]
    assert (await client.who_am_i()).principal.name == "admin"
    made = await client.create_token("ci", ["session.read"], time_to_live=60)
    async with Client(client.address, token=made.secret) as narrow:
        assert [found async for found in narrow.list_sessions("slug = nobody")] == []
        with pytest.raises(bridle.NotAllowedError):
            await narrow.start_session("no", agent="shell")
        await client.revoke_token("ci")
        with pytest.raises(bridle.TokenRevokedError):
            await narrow.get_session("x")
    await client.create_workspace("team")
    assert "team" in [item.name async for item in client.list_workspaces()]
    async with Client(client.address, token=pair.token, workspace="team") as elsewhere:
        assert [found async for found in elsewhere.list_sessions()] == []
    assert (await client.health()).status == 1


async def test_what_is_wrong_with_a_request_is_told_by_field(pair: Pair) -> None:
    with pytest.raises(bridle.InvalidRequestError) as raised:
        await pair.client.start_session("Not A Slug", agent="shell")
    assert [item.field for item in raised.value.fields] == ["slug"]
    with pytest.raises(bridle.MessageTooLargeError):
        await pair.client.send("x", "y" * 5_000_000)


async def test_without_arguments_the_users_settings_count(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BRIDLE_HOME", str(pair.home))
    async with Client() as client:
        assert client.address == pair.address
        assert (await client.who_am_i()).principal.name == "admin"


async def test_a_call_without_a_stored_token_is_not_even_made() -> None:
    async with Client("127.0.0.1:9", token=lambda: None) as client:
        with pytest.raises(bridle.TokenMissingError):
            await client.get_session("x")


async def test_a_call_outlives_a_restart_of_control(tmp_path: Path) -> None:
    async with running_pair(tmp_path, host=False) as own:
        await own.client.create_workspace("before")
        await own.end_control()
        # However long control takes to start: the call's own time is the limit.
        policy = RetryPolicy(attempts=10_000, backoff=Backoff(most=0.2))
        async with Client(own.address, token=own.token, retry=policy) as patient:
            async with asyncio.TaskGroup() as group:
                made = group.create_task(patient.create_workspace("during"))
                await own.start_control()
            assert made.result().workspace.name == "during"
        names = [item.name async for item in own.client.list_workspaces()]
        assert names.count("during") == 1


async def test_a_call_waits_for_a_control_that_it_knows_however_soon_its_tries_are_over(
    tmp_path: Path,
) -> None:
    async with running_pair(tmp_path, host=False) as own:
        hasty = RetryPolicy(attempts=2, backoff=Backoff(first=0.001, most=0.002))
        async with Client(own.address, token=own.token, retry=hasty) as client:
            await client.who_am_i()
            await own.end_control()
            channel = client._transport.channel
            async with asyncio.TaskGroup() as group:
                made = group.create_task(client.create_workspace("during"))
                state = channel.get_state
                while state() is not ChannelConnectivity.TRANSIENT_FAILURE:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                await own.start_control()
            assert made.result().workspace.name == "during"


async def test_a_control_that_never_answered_is_not_waited_for() -> None:
    hasty = RetryPolicy(attempts=2, backoff=Backoff(first=0.001, most=0.002))
    async with Client("127.0.0.1:9", token="brt_x", retry=hasty, timeout=600) as client:
        with pytest.raises(bridle.ConnectionLostError):
            await client.who_am_i()


async def test_a_control_that_pauses_while_one_connects_is_waited_for(pair: Pair) -> None:
    """It has a connection, and says nothing on it: other than one that is not there."""
    async with (
        fault_proxy(pair.address) as proxy,
        Client(proxy.address, token=pair.token) as client,
        asyncio.TaskGroup() as group,
    ):
        proxy.stall()
        calling = group.create_task(client.who_am_i())
        await asyncio.wait({calling}, timeout=PAUSE)
        assert not calling.done(), calling.result()
        proxy.heal()
    assert calling.result().principal.name == "admin"


async def test_no_new_stream_is_made_while_nobody_answers() -> None:
    """Each one would leak within gRPC."""
    async with serving([progress(0), events(1), Silence()]) as server:
        client = Client(server.address, token="brt_x", retry=RetryPolicy(backoff=Backoff(0.001)))
        updates = client.watch("x").updates()
        for _ in range(3):
            await anext(updates)
        streams = 0
        plain = client._sessions.Watch

        def counted(*args: object, **kwargs: object) -> object:
            nonlocal streams
            streams += 1
            return plain(*args, **kwargs)  # type: ignore[arg-type]

        client._sessions.Watch = counted  # type: ignore[assignment]
    assert isinstance((await anext(updates)).item, bridle.Disconnected)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1.0):
            await anext(updates)
    assert streams <= 2  # one may be on its way when the server goes
    await client.close()


async def test_a_stream_of_sessions_comes_again_whole_after_a_loss(tmp_path: Path) -> None:
    async with running_pair(tmp_path) as own:
        await own.client.start_session("stays", agent="shell")
        stream = own.client.watch_sessions()
        async with asyncio.timeout(40):
            assert (await anext(stream)).session.slug == "stays"
            assert (await anext(stream)).WhichOneof("response") == "snapshot_end"
            await own.restart_control()
            async for message in stream:
                if message.WhichOneof("response") == "snapshot_end":
                    break
        await stream.aclose()
        await own.kill_all()


async def test_an_error_of_a_stream_of_sessions_is_raised(pair: Pair) -> None:
    async with Client(pair.address, token="brt_garbage") as stranger:
        with pytest.raises(bridle.TokenInvalidError):
            await anext(stranger.watch_sessions())


async def test_the_synchronous_client_does_the_same(pair: Pair) -> None:
    def work() -> Sequence[str]:
        with SyncClient(pair.address, token=pair.token) as client:
            client.start_session("sync", agent="shell", prompt="echo hi")
            client.stop("sync")
            kinds = [event.WhichOneof("kind") or "" for event in client.watch("sync")]
            assert [found.slug for found in client.list_sessions("slug = sync")] == ["sync"]
            assert client.workspace == ""
            assert client.address == pair.address
            with pytest.raises(bridle.SessionNotFoundError):
                client.get_session("nobody")
            with client.watch_many(["sync"]) as watch:
                progressed = [
                    update.item
                    for update in watch.updates()
                    if isinstance(update.item, watch_pb2.Progress)
                ]
            assert progressed[-1].ended
            client.close()
            return kinds

    with ThreadPoolExecutor(1) as pool:
        kinds = await asyncio.get_running_loop().run_in_executor(pool, work)
    assert (kinds[0], kinds[-1]) == ("input_queued", "session_ended")


async def test_a_failing_stream_tells_its_status() -> None:
    failing = Failure(grpc.StatusCode.PERMISSION_DENIED, "NOT_ALLOWED")
    async with serving([failing]) as server, Client(server.address, token="brt_x") as client:
        with pytest.raises(bridle.NotAllowedError):
            _ = [event async for event in client.watch("x")]


async def test_all_tries_of_a_request_carry_one_request_id() -> None:
    lost = Failure(grpc.StatusCode.UNAVAILABLE)
    ends = [lost, Failure(grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN"), None]
    async with serving(sends=ends) as server, Client(server.address, token="brt_x") as client:
        sent = await client.send("x", "hello")
        assert len(server.requests) == 3
        assert {request.request_id for request in server.requests} == {sent.receipt.request_id}


@pytest.mark.parametrize("reason", ["HOST_UNREACHABLE", "QUEUE_FULL"])
async def test_what_must_not_be_tried_again_is_raised_at_once(reason: str) -> None:
    end = Failure(grpc.StatusCode.UNAVAILABLE, reason)
    async with serving(sends=[end]) as server, Client(server.address, token="brt_x") as client:
        with pytest.raises(bridle.BridleError) as raised:
            await client.send("x", "hello")
        assert raised.value.reason == reason
        assert len(server.requests) == 1
