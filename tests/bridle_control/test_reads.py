"""Lists, pages, filters, logs and watches of sessions, through real gRPC."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from bridle.v1 import event_pb2, input_pb2, session_pb2, session_service_pb2, watch_pb2
from tests.bridle_control.serving import fails
from tests.bridle_control.stack import Stack, pb, ref, text


async def listed(stack: Stack, **fields: Any) -> list[str]:
    """The slugs of all pages."""
    seen: list[str] = []
    token = ""
    while True:
        request = pb.ListSessionsRequest(page_token=token, **fields)
        page = await stack.sessions.ListSessions(request, metadata=stack.admin)
        seen += [session.slug for session in page.sessions]
        token = page.next_page_token
        if not token:
            return seen


async def test_sessions_are_listed_by_filter_order_and_page(stack: Stack) -> None:
    host = await stack.host()
    for number, team in enumerate(["core", "web", "core"]):
        await stack.start(host, f"s{number}", labels={"team": team})
        stack.clock.advance(0.1)
    over = await stack.start(host, "over", agent="steerable")
    host.over(over.session_id, 1, "FAILED", "AGENT_LOST")
    await host.synced()
    assert await listed(stack) == ["over", "s2", "s1", "s0"]
    assert await listed(stack, page_size=1) == ["over", "s2", "s1", "s0"]
    assert await listed(stack, order_by="slug", page_size=3) == ["over", "s0", "s1", "s2"]
    assert await listed(stack, order_by="slug desc") == ["s2", "s1", "s0", "over"]
    assert await listed(stack, filter="labels.team = core", order_by="slug") == ["s0", "s2"]
    assert await listed(stack, filter="labels.team != core", order_by="slug") == ["over", "s1"]
    assert await listed(stack, filter="live = true AND labels.team = web") == ["s1"]
    assert await listed(stack, filter="phase = FAILED") == ["over"]
    assert await listed(stack, filter="end_reason = AGENT_LOST") == ["over"]
    assert await listed(stack, filter="agent != shell") == ["over"]
    assert await listed(stack, filter=f"host_id = {host.host_id} AND slug = s1") == ["s1"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"filter": "nonsense"}, "filter"),
        ({"filter": "phase = SLEEPING"}, "filter"),
        ({"filter": "secret = 1"}, "filter"),
        ({"order_by": "phase"}, "order_by"),
        ({"page_token": "garbage"}, "page_token"),
        ({"page_size": 1001}, "page_size"),
        ({"page_size": -1}, "page_size"),
    ],
)
async def test_a_list_that_is_asked_wrongly_names_the_field(
    stack: Stack, fields: dict[str, Any], field: str
) -> None:
    failure = await fails(
        stack.sessions.ListSessions(pb.ListSessionsRequest(**fields), metadata=stack.admin)
    )
    assert failure.reason == "INVALID_REQUEST"
    assert [name for name, _ in failure.fields] == [field]


async def test_inputs_are_listed_in_the_order_of_the_queue(stack: Stack) -> None:
    host = await stack.host()
    session = await stack.start(host)
    sent = [(await stack.send(host, session, content=[text(str(n))])) for n in range(5)]
    host.turn(sent[0][1], 1)
    await host.synced()

    async def inputs(**fields: Any) -> list[str]:
        seen: list[str] = []
        token = ""
        while True:
            request = pb.ListInputsRequest(
                session=ref(session), page_token=token, page_size=2, **fields
            )
            page = await stack.sessions.ListInputs(request, metadata=stack.admin)
            seen += [each.content[0].text for each in page.inputs]
            token = page.next_page_token
            if not token:
                return seen

    assert await inputs() == ["0", "1", "2", "3", "4"]
    assert await inputs(order_by="sequence desc") == ["4", "3", "2", "1", "0"]
    assert await inputs(filter="state = WAITING") == ["1", "2", "3", "4"]
    assert await inputs(filter="state = CONSUMED AND mode = QUEUE") == ["0"]
    request = pb.ListInputsRequest(session=ref(session), filter="state = CONSUMED")
    (consumed,) = (await stack.sessions.ListInputs(request, metadata=stack.admin)).inputs
    assert consumed.state == input_pb2.INPUT_STATE_CONSUMED
    assert (consumed.turn, consumed.sequence) == (1, sent[0][0].sequence)
    assert consumed.command_id == sent[0][0].command_id
    assert consumed.principal.name == "admin"


async def test_a_log_is_read_by_pages_filters_and_cursors(stack: Stack) -> None:
    host = await stack.host()
    session = await stack.start(host)
    await stack.begin_turn(host, session, 1)
    for number in range(10):
        output = event_pb2.ToolCallOutput(tool_call_id="t", text=str(number))
        host.event(session.session_id, 1, turn=1, tool_call_output=output)
    await host.synced()

    async def sequences(**fields: Any) -> list[int]:
        seen: list[int] = []
        token = ""
        while True:
            request = pb.ListEventsRequest(
                session=ref(session), page_token=token, page_size=4, **fields
            )
            page = await stack.sessions.ListEvents(request, metadata=stack.admin)
            assert (page.session_id, page.log_id) == (session.session_id, session.log_id)
            seen += [event.sequence for event in page.events]
            token = page.next_page_token
            if not token:
                return seen

    last = (await stack.session(session.session_id)).last_sequence
    assert await sequences() == list(range(1, last + 1))
    assert await sequences(order_by="sequence desc") == list(range(last, 0, -1))
    assert await sequences(after_sequence=last - 3) == [last - 2, last - 1, last]
    assert await sequences(filter="kind = TOOL_CALL_OUTPUT") == list(range(last - 9, last + 1))
    assert await sequences(filter="turn = 1 AND kind != TOOL_CALL_OUTPUT") == [5, 6]
    assert await sequences(filter="run = 2") == []


async def test_a_next_page_that_the_floor_overtook_is_refused_and_never_skips(
    stack: Stack,
) -> None:
    host = await stack.host()
    session = await stack.start(host)
    for number in range(10):
        host.event(session.session_id, 1, diagnostic=event_pb2.Diagnostic(message=str(number)))
    await host.synced()

    async def page(token: str = "", **fields: Any) -> Any:
        request = pb.ListEventsRequest(
            session=ref(session), page_token=token, page_size=4, **fields
        )
        return await stack.sessions.ListEvents(request, metadata=stack.admin)

    async def rise(floor: int) -> None:
        await stack.store.write(lambda tx: tx.raise_floor(session.session_id, floor))

    first, down = await page(), await page(order_by="sequence desc")
    await rise(5)
    second = await page(first.next_page_token)
    assert [event.sequence for event in second.events] == [5, 6, 7, 8]
    await rise(6)
    failure = await fails(page(first.next_page_token))
    assert (failure.reason, failure.metadata["floor"]) == ("CURSOR_COMPACTED", "6")
    third = await page(second.next_page_token)
    assert third.events[0].sequence == 9
    # Downwards the pages end at the floor.
    rest = await page(down.next_page_token, order_by="sequence desc")
    assert rest.events[-1].sequence == 6
    assert not rest.next_page_token


async def test_events_carry_what_control_adds_to_them(stack: Stack) -> None:
    host = await stack.host()
    session = await stack.start(host)
    await stack.send(host, session)
    events = await stack.events(session.session_id)
    assert [event.sequence for event in events] == [1, 2, 3, 4]
    assert all(event.run == 1 for event in events)
    assert all(event.HasField("time") and event.HasField("commit_time") for event in events)
    assert events[-1].principal.name == "admin"
    assert not events[0].HasField("principal")


async def test_a_watch_replays_goes_on_live_and_ends_with_the_run(stack: Stack) -> None:
    host = await stack.host()
    session = await stack.start(host)
    request = watch_pb2.WatchRequest(
        targets=[watch_pb2.WatchTarget(session=ref(session))],
        until=watch_pb2.WATCH_UNTIL_RUN_END,
    )
    watch = stack.sessions.Watch(request, metadata=stack.admin)
    seen: list[int] = []
    ended = False
    async for message in watch:
        if message.HasField("events"):
            seen += [event.sequence for event in message.events.events]
            if seen == [1, 2, 3]:
                host.over(session.session_id, 1)
        ended = ended or message.progress.ended
    assert seen == [1, 2, 3, 4]
    assert ended
    assert await watch.code() is grpc.StatusCode.OK


async def test_a_watch_of_a_tail_or_of_a_foreign_log_is_told_so(stack: Stack) -> None:
    host = await stack.host()
    session = await stack.start(host)
    tail = watch_pb2.WatchTarget(session=ref(session), tail=1)
    watch = stack.sessions.Watch(watch_pb2.WatchRequest(targets=[tail]), metadata=stack.admin)
    assert (await watch.read()).progress.sequence == 2
    assert [event.sequence for event in (await watch.read()).events.events] == [3]
    watch.cancel()
    foreign = watch_pb2.WatchTarget(session=ref(session), after_sequence=2, log_id="other")
    call = stack.sessions.Watch(watch_pb2.WatchRequest(targets=[foreign]), metadata=stack.admin)
    assert (await fails(call)).reason == "CURSOR_FOREIGN"
    missing = watch_pb2.WatchTarget(session=session_pb2.SessionRef(slug="none"))
    call = stack.sessions.Watch(watch_pb2.WatchRequest(targets=[missing]), metadata=stack.admin)
    assert (await fails(call)).reason == "SESSION_NOT_FOUND"


async def test_the_feed_of_sessions_tells_when_their_host_comes_and_goes(stack: Stack) -> None:
    host = await stack.host()
    session = await stack.start(host)
    watch = stack.sessions.WatchSessions(watch_pb2.WatchSessionsRequest(), metadata=stack.admin)
    assert (await watch.read()).session.reachability == 1
    assert (await watch.read()).HasField("snapshot_end")
    await host.drop()
    gone = (await watch.read()).session
    assert (gone.session_id, gone.reachability) == (session.session_id, 2)
    watch.cancel()


def test_every_method_of_the_contract_is_served() -> None:
    from bridle_control.session_service import SessionService

    methods = session_service_pb2.DESCRIPTOR.services_by_name["SessionService"].methods
    assert not [each.name for each in methods if not hasattr(SessionService, each.name)]
