"""What the page for callers in any language says to type is typed, against the real pair."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from tests.docs.test_readme import commands, shell
from tests.pair import running_pair

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "clients.md").read_text(encoding="utf-8")


def block(name: str) -> list[str]:
    """The commands behind `<!-- run: NAME -->`."""
    found = re.search(rf"<!-- run: {name} -->\n```console\n(.*?)```", PAGE, re.DOTALL)
    assert found, name
    return commands(found[1])


async def test_calls_by_hand_over_grpc_and_http_do_what_the_page_says(tmp_path: Path) -> None:
    async with running_pair(tmp_path, gateway=True) as pair:
        right = re.search(r"`bridle (token create NAME --right 'session\.\*')`", PAGE)
        assert right
        token = (await shell(pair, f"bridle {right[1]}")).out.strip()
        await pair.client.start_session("hello", agent="shell")
        buf, grpcurl = block("grpc")
        [curl] = block("http")

        got = await shell(pair, buf.replace("127.0.0.1:7420", pair.address), TOKEN=token)
        assert json.loads(got.out)["session"]["slug"] == "hello", got
        sent = await shell(pair, curl.replace("127.0.0.1:7421", pair.http), TOKEN=token)
        assert json.loads(sent.out)["receipt"]["verb"] == "VERB_SEND", sent
        if shutil.which("grpcurl") is not None:  # it watches until it is ended
            watch = f"coproc exec {grpcurl.replace('127.0.0.1:7420', pair.address)}; "
            until = "sed '/\"sessionStarted\"/q' <&${COPROC[0]}; kill $COPROC_PID"
            told = await shell(pair, watch + until, TOKEN=token)
            assert '"sessionStarted"' in told.out, told
