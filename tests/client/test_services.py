"""One service in the foreground: control init, control serve, host join, host serve."""

from __future__ import annotations

import asyncio
import signal
from asyncio.subprocess import Process
from pathlib import Path

from tests.pair import PATIENCE, Pair, Result, running_pair


async def ready(process: Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE):
        return (await process.stdout.readline()).decode()


async def ended(process: Process, number: int = signal.SIGTERM) -> int:
    process.send_signal(number)
    async with asyncio.timeout(PATIENCE):
        await process.communicate()
    return process.returncode or 0


async def test_a_control_is_made_and_served_by_hand(tmp_path: Path) -> None:
    pair = Pair(tmp_path / "home")
    pair.work.mkdir(parents=True)
    made = await pair.cli("control", "init")
    assert (made.code, made.err) == (0, "")
    token = made.out.removeprefix("token ").strip()
    assert token.startswith("brt_")
    assert (await pair.cli("control", "init")).code == 1
    control = await pair.start_cli("control", "serve", "--listen", "127.0.0.1:0")
    address = (await ready(control)).removeprefix("ready grpc=").strip()
    words = ("auth", "login", "--address", address)
    assert (await pair.cli(*words, stdin=token)).code == 0
    whoami = await pair.cli("auth", "whoami")
    assert "principal  admin (USER)" in whoami.out
    assert await ended(control) == 0


async def test_wrong_flags_are_told_by_the_service_itself(tmp_path: Path) -> None:
    pair = Pair(tmp_path / "home")
    pair.work.mkdir(parents=True)
    for words in (("control", "serve", "--bogus"), ("host", "serve", "--bogus")):
        result = await pair.cli(*words)
        assert result.code == 2
        assert "--bogus" in result.err
        assert result.err.count("\n") == 1
    helped = await pair.cli("control", "serve", "--help")
    assert "--insecure-public" in helped.out


async def test_a_machine_joins_and_serves_then_is_drained_and_removed(tmp_path: Path) -> None:
    async with running_pair(tmp_path, host=False) as pair:
        joined = await pair.cli("host", "join", "--name", "second")
        assert joined == Result(0, f"joined {pair.address} as second\n", "")
        again = await pair.cli("host", "join")
        assert again.code == 2
        assert "has joined already" in again.err
        host = await pair.start_cli("host", "serve")
        assert await ready(host) == "ready host=second\n"
        words = ("session", "start", "there", "--agent", "shell", "--host", "second")
        assert (await pair.cli(*words)).code == 0
        in_use = await pair.cli("host", "remove", "second")
        assert in_use.code == 7
        assert "hint: " in in_use.err
        assert (await pair.cli("host", "drain", "second", "--wait")).code == 0
        assert (await pair.cli("wait", "there", "--for", "end")).out == "STOPPED\n"
        refused = await pair.cli("session", "start", "more", "--agent", "shell")
        assert refused.code == 6
        assert (await pair.cli("host", "remove", "second")) == Result(0, "removed\n", "")
        unknown = await pair.cli("host", "drain", "second")
        assert unknown.code == 3
        # Its credential is dead, and with it the service.
        async with asyncio.timeout(PATIENCE):
            await host.communicate()
        assert host.returncode == 1


async def test_a_join_token_made_elsewhere_is_good_once(tmp_path: Path) -> None:
    async with running_pair(tmp_path, host=False) as pair:
        made = await pair.cli("token", "create", "--join")
        other = {"BRIDLE_HOME": str(tmp_path / "other")}
        words = ("host", "join", "--address", pair.address, "--token-file", "-")
        joined = await pair.cli(*words, "--name", "far", stdin=made.out, **other)
        assert joined == Result(0, f"joined {pair.address} as far\n", "")
        third = {"BRIDLE_HOME": str(tmp_path / "third")}
        refused = await pair.cli(*words, "--name", "late", stdin=made.out, **third)
        assert refused.code == 1
        assert refused.err.count("\n") == 1
        assert not list((tmp_path / "third").rglob("join-token"))
