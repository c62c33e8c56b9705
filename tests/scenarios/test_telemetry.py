"""Traces and metrics of the real pair, in a collector and for Prometheus."""

from __future__ import annotations

import asyncio
import re
import signal
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from prometheus_client.parser import text_string_to_metric_families

from bridle.v1 import content_pb2, session_pb2
from bridle.v1 import session_service_pb2 as pb
from bridle.v1 import session_service_pb2_grpc as pb_grpc
from tests.pair import Pair, running_pair, until
from tests.scenarios.support import turn_ends
from tests.support.collector import Collector, Span, collector

ROOT = Path(__file__).resolve().parents[2]
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"
#: Exporters send soon: tests wait for what they send.
SOON = {"OTEL_BSP_SCHEDULE_DELAY": "200", "OTEL_METRIC_EXPORT_INTERVAL": "500"}


@asynccontextmanager
async def traced_pair(tmp_path: Path, found: Collector) -> AsyncIterator[Pair]:
    flags = ["--otlp-endpoint", found.endpoint, "--metrics-listen", "127.0.0.1:0"]
    async with running_pair(
        tmp_path,
        control_arguments=flags,
        host_arguments=flags,
        control_environment=SOON,
        host_environment=SOON,
    ) as pair:
        yield pair


async def send(pair: Pair, slug: str, script: str, trace_id: str = TRACE_ID) -> None:
    """As any client would that has a trace: W3C trace context in the metadata."""
    async with grpc.aio.insecure_channel(pair.address) as channel:
        stub: Any = pb_grpc.SessionServiceStub(channel)
        request = pb.SendRequest(
            session=session_pb2.SessionRef(slug=slug), content=[content_pb2.Content(text=script)]
        )
        metadata = (
            ("authorization", f"Bearer {pair.token}"),
            ("traceparent", f"00-{trace_id}-{CALLER}-01"),
        )
        await stub.Send(request, metadata=metadata)


def tree(spans: list[Span]) -> dict[str, tuple[str, str]]:
    """For each span: the name of its parent, and its service."""
    names = {span.span_id: span.name for span in spans}
    return {s.name: (names.get(s.parent_id, s.parent_id), s.service) for s in spans}


async def test_one_trace_goes_from_a_callers_request_to_the_drivers_turn_and_back(
    tmp_path: Path,
) -> None:
    with collector() as found:
        async with traced_pair(tmp_path, found) as pair:
            await pair.client.start_session("x", agent="shell")
            await send(pair, "x", "echo s3cret-word")
            await turn_ends(pair, "x", 1)
            served = "bridle.v1.SessionService/Send"
            spans = await found.until(
                lambda: _with(
                    found.trace(TRACE_ID),
                    ("bridle-control", served),
                    ("bridle-control", "command SEND"),
                    ("bridle-host", "command SEND"),
                    ("bridle-host", "turn"),
                )
            )
        by_service = {(span.service, span.name): span for span in spans}
        server = by_service["bridle-control", served]
        assert server.parent_id == CALLER
        for child in (
            by_service["bridle-control", "command SEND"],
            by_service["bridle-host", "command SEND"],
            by_service["bridle-host", "turn"],
        ):
            assert child.parent_id == server.span_id, child
        assert by_service["bridle-host", "turn"].attributes["bridle.stop_reason"] == "COMPLETED"
        # Not a word of what was said, in anything that came.
        assert b"s3cret-word" not in b"".join(found.bodies)
        assert pair.token.encode() not in b"".join(found.bodies)


async def test_what_a_command_does_is_in_the_trace_that_it_was_started_in(tmp_path: Path) -> None:
    with collector() as found:
        async with traced_pair(tmp_path, found) as pair:
            await pair.client.start_session("x", agent="shell")
            sent = await pair.cli(
                *("session", "send", "x", "true"), TRACEPARENT=f"00-{TRACE_ID}-{CALLER}-01"
            )
            assert sent.code == 0, sent.err
            spans = await found.until(
                lambda: _with(
                    found.trace(TRACE_ID),
                    ("bridle-control", "bridle.v1.SessionService/Send"),
                    ("bridle-host", "turn"),
                )
            )
            assert CALLER in {span.parent_id for span in spans}


async def test_a_queued_inputs_turn_is_in_its_own_trace_over_the_death_of_both_services(
    tmp_path: Path,
) -> None:
    with collector() as found:
        async with traced_pair(tmp_path, found) as pair:
            gate = tmp_path / "gate"
            await pair.client.start_session(
                "x", agent="shell", prompt=f"until [ -e {gate} ]; do sleep 0.1; done"
            )
            await send(pair, "x", "echo later")
            await pair.end_host(signal.SIGKILL)
            await pair.restart_control(signal.SIGKILL)
            await pair.start_host()
            gate.touch()
            await turn_ends(pair, "x", 2)
            # What the killed ones had not sent is lost with them; what ends later is not.
            await found.until(
                lambda: (
                    {("bridle-host", "turn"), ("bridle-control", "command SEND")}
                    <= {(span.service, span.name) for span in found.trace(TRACE_ID)}
                )
            )
            (turn,) = [span for span in found.trace(TRACE_ID) if span.name == "turn"]
            assert turn.attributes["bridle.turn"] == 2


async def test_both_services_tell_prometheus_what_they_do(tmp_path: Path) -> None:
    with collector() as found:
        async with traced_pair(tmp_path, found) as pair:
            await pair.client.start_session("x", agent="shell", prompt="true")
            await turn_ends(pair, "x", 1)
            watching = aiter(pair.client.watch("x"))
            await anext(watching)

            async def told() -> bool:
                page = await scrape(pair.metrics)
                return (
                    page.get(("bridle_sessions", "IDLE")) == 1
                    and page.get(("bridle_watchers", "")) == 1
                )

            await until(told, "the gauges of control")
            control = await scrape(pair.metrics)
            assert control["bridle_command_duration_seconds_count", "START"] == 1
            assert control["bridle_hosts", "connected"] == 1
            assert control["bridle_store_commit_duration_seconds_count", ""] > 1
            assert control["bridle_store_events_total", ""] > 5
            assert (
                control[
                    "rpc_server_call_duration_seconds_count",
                    "bridle.v1.SessionService/StartSession",
                ]
                == 1
            )
            host = await scrape(pair.host_metrics)
            assert host["bridle_host_sessions", "IDLE"] == 1
            assert host["bridle_host_link_connected", ""] == 1
            # And the same to the collector.
            names = await found.until(lambda: _with_points(found))
            assert {"bridle-control", "bridle-host"} <= names
            # All that there is stands in the operators' tables.
            page = (ROOT / "docs" / "operating.md").read_text("utf-8")
            documented = set(re.findall(r"^\| `((?:bridle|rpc)\.[a-z.]+)` \|", page, re.MULTILINE))
            assert {point.name for point in found.points} <= documented


async def test_metrics_are_told_after_control_was_killed_and_started_again(
    tmp_path: Path,
) -> None:
    with collector() as found:
        async with traced_pair(tmp_path, found) as pair:
            await pair.client.start_session("x", agent="shell", prompt="true")
            await pair.restart_control()

            async def told() -> bool:
                page = await scrape(pair.metrics)
                return page.get(("bridle_sessions", "IDLE")) == 1

            await until(told, "the session, in the metrics of the new process")


async def scrape(address: str) -> dict[tuple[str, str], float]:
    """The samples of a page, by name and their first telling label."""

    def read() -> str:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=30) as answer:
            text: str = answer.read().decode()
            return text

    page = await asyncio.to_thread(read)
    labels = ("bridle_phase", "bridle_verb", "bridle_link_state", "rpc_method")
    found: dict[tuple[str, str], float] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            label = next((sample.labels[name] for name in labels if name in sample.labels), "")
            key = (sample.name, label)
            found[key] = found.get(key, 0.0) + sample.value
    return found


def _with(spans: list[Span], *wanted: tuple[str, str]) -> list[Span] | None:
    """The spans, once there are all of these: a call's own may come after that of its command."""
    return spans if {*wanted} <= {(span.service, span.name) for span in spans} else None


def _with_points(found: Collector) -> set[str] | None:
    services = {
        point.service
        for point in found.points
        if point.name in ("bridle.sessions", "bridle.host.sessions")
    }
    return services if len(services) == 2 else None
