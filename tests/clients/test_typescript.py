"""What only TypeScript has: async iterators that are left while they wait, a process that ends."""

from __future__ import annotations

import pytest

from scripts import client_tools
from tests.clients.conftest import chosen
from tests.clients.runners import Language, program
from tests.pair import Pair

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

NODE = [each for each in chosen() if each.transport == "grpc"]


@pytest.mark.parametrize("language", NODE, ids=lambda language: language.name)
async def test_watches_are_left_at_once_and_the_process_ends_by_itself(
    language: Language, pair: Pair
) -> None:
    try:
        language.build()
    except client_tools.MissingError as why:
        pytest.skip(f"{language.name}: {why}")
    await pair.client.start_session("left", agent="scripted", prompt="say a")
    code, said = await program(
        *("node", str(client_tools.TOOLS / "typescript" / "leaving.mjs"), "left"),
        env=pair.environment(BRIDLE_ADDRESS=pair.address, BRIDLE_TOKEN=pair.token),
    )
    assert said.splitlines() == [
        "returned: true true",
        "threw mine: true true",
        "left at: 1",
        "aborted: ConnectError: [canceled] cancelled",
        "no token: DeadlineExceeded",
        "no token, returned: true true",
        "no token, closed: Canceled Canceled",
        "closed: Canceled Canceled",
        "connections: 1",
    ]
    assert code == 0
