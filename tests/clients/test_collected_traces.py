"""What a caller of any language makes Bridle do is seen as one trace in a collector: control and
the host send their spans there, and the examples theirs.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections.abc import AsyncIterator, Iterator, Sequence

import pytest
import pytest_asyncio

from scripts.client_tools import CLIENTS, TOOLS, MissingError, alone
from tests.clients.conftest import chosen
from tests.clients.runners import Language, Runner, built
from tests.clients.test_calls import ref, start, text
from tests.pair import PATIENCE, Pair, running_pair
from tests.support.collector import Collector, Span, collector

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]

SEND = "bridle.v1.SessionService/Send"
INTERNAL, SERVER, CLIENT, CONSUMER = 1, 2, 3, 5


@pytest.fixture(scope="module")
def collected() -> Iterator[Collector]:
    with collector() as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def pair(
    collected: Collector, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Pair]:
    """A pair that sends its traces to the collector."""
    otlp = ("--otlp-endpoint", collected.endpoint)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")  # ms between two exports
        async with running_pair(
            tmp_path_factory.mktemp("pair"),
            gateway=True,
            control_arguments=("--http-origin", "*", *otlp),
            host_arguments=otlp,
        ) as pair:
            yield pair


def below(parent: str, spans: Sequence[Span], service: str, name: str, kind: int) -> list[Span]:
    """Those of a name that are children of a span."""
    wanted = (parent, f"bridle-{service}", name, kind)
    return [
        each for each in spans if (each.parent_id, each.service, each.name, each.kind) == wanted
    ]


def send_reached_the_driver(caller: str, spans: Sequence[Span]) -> bool:
    """Whether below the caller's span stands a Send, with its command and its turn."""
    return any(
        below(server.span_id, spans, "control", "command SEND", INTERNAL)
        and below(server.span_id, spans, "host", "command SEND", CONSUMER)
        and below(server.span_id, spans, "host", "turn", INTERNAL)
        for server in below(caller, spans, "control", SEND, SERVER)
    )


async def test_what_a_call_makes_bridle_do_is_a_part_of_its_callers_trace_and_nothing_else_is(
    runner: Runner, collected: Collector
) -> None:
    trace, caller = secrets.token_hex(16), secrets.token_hex(8)
    place = {"traceparent": f"00-{trace}-{caller}-01"}
    slug = await start(runner)
    assert "receipt" in await runner.call("Send", ref(slug) | text("say a"), metadata=place)
    await collected.until(lambda: send_reached_the_driver(caller, collected.trace(trace)))
    before = len(collected.trace(trace))

    assert "receipt" in await runner.call("Send", ref(slug) | text("say b"))
    session = (await runner.call("GetSession", ref(slug)))["session"]["sessionId"]

    def turns() -> list[Span]:
        return [
            each
            for each in list(collected.spans)
            if each.name == "turn" and each.attributes["bridle.session_id"] == session
        ]

    await collected.until(lambda: len(turns()) == 2)
    assert len({each.trace_id for each in turns()}) == 2
    assert len(collected.trace(trace)) == before


EXAMPLES = [each for each in chosen() if each.name in ("python", "go", "java", "typescript")]


def example(language: Language) -> Sequence[str]:
    """The command of the language's example. Raises MissingError."""
    command = built(language)
    return {
        "python": [sys.executable, str(CLIENTS / "python" / "example.py")],
        "go": [str(TOOLS / "go" / "example")],
        "typescript": ["node", str(CLIENTS / "typescript" / "dist" / "example.mjs")],
        "java": [*command[:-1], "dev.bridle.example.Example"],
    }[language.name]


@pytest.mark.parametrize("language", EXAMPLES, ids=lambda language: language.name)
async def test_the_trace_that_begins_in_an_example_ends_in_the_driver(
    language: Language, pair: Pair, collected: Collector
) -> None:
    try:
        command = example(language)
    except MissingError as why:
        pytest.skip(f"{language.name}: {why}")
    service = f"example-{language.name}-{secrets.token_hex(4)}"
    environment = pair.environment(
        BRIDLE_ADDRESS=pair.address,
        BRIDLE_TOKEN=pair.token,
        OTEL_EXPORTER_OTLP_ENDPOINT=collected.endpoint,
        OTEL_SERVICE_NAME=service,
    )
    with alone():  # A test that builds it may run, too.
        process = await asyncio.create_subprocess_exec(*command, env=environment)
        async with asyncio.timeout(PATIENCE):
            assert await process.wait() == 0

    # All of its own is there once it has ended.
    own = [each for each in collected.spans if each.service == service]
    [root] = [each for each in own if each.name == "example"]
    assert root.parent_id == ""
    calls = [each for each in own if each is not root]
    assert {each.parent_id for each in calls} == {root.span_id}
    assert {each.kind for each in calls} == {CLIENT}
    assert not [each.name for each in own if each.error]
    verbs = [each.name.rpartition("/")[2] for each in calls]
    assert sorted(verbs) == ["Interrupt", "Send", "StartSession", "Stop", "Watch"]
    [send] = [each for each in calls if each.name == SEND]
    await collected.until(
        lambda: send_reached_the_driver(send.span_id, collected.trace(root.trace_id))
    )
