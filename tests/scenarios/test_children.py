"""Agents that start sessions of their own, from inside a session."""

from __future__ import annotations

from pathlib import Path

from bridle.v1 import session_pb2
from tests.pair import running_pair, until
from tests.scenarios.support import bearing, log, output, reaches, turn_ends

START = "bridle session start {slug} --agent shell --dir {directory}; echo $?"


async def test_a_childs_directory_lies_in_its_parents_wherever_links_lead(tmp_path: Path) -> None:
    async with running_pair(tmp_path) as pair:
        (tmp_path / "outside").mkdir()
        (pair.work / "below").mkdir()
        (pair.work / "out").symlink_to(tmp_path / "outside")
        (pair.work / "in").symlink_to(pair.work / "below")
        starts = [START.format(slug=name, directory=name) for name in ("below", "in", "out")]
        await pair.client.start_session("parent", agent="shell", prompt="; ".join(starts))
        await turn_ends(pair, "parent", 1, commands=len(starts))

        said = output(await log(pair, "parent"))
        assert [line for line in said.splitlines() if line.isdigit()] == ["0", "0", "5"]
        assert "PERMISSION_DENIED: a child's directory lies in its parent's" in said
        slugs = {found.slug async for found in pair.client.list_sessions()}
        assert slugs == {"parent", "below", "in"}
        await pair.kill_all()


def codes(said: str) -> dict[str, int]:
    """The exit codes that `told` printed, by the names of what was tried."""
    lines = [line.removeprefix("code ") for line in said.splitlines() if line.startswith("code ")]
    return {name: int(code) for name, code in (line.rsplit(" ", 1) for line in lines)}


def told(name: str, command: str) -> str:
    return f"bridle {command}; echo code {name} $?"


async def test_an_agent_starts_a_child_and_sends_to_it_and_watches_it_and_stops_itself(
    tmp_path: Path,
) -> None:
    async with running_pair(tmp_path) as pair:
        script = [
            told("start", "session start kid --agent shell echo born"),
            told("send", "session send kid --wait echo from its parent"),
            told("wait", "wait kid"),
            told("kid", "status kid"),
            told("watch", "session watch kid --no-follow"),
            told("self", "status"),
            told("later", "session send 'echo to myself'"),
            told("stop", "session stop"),
        ]
        await pair.client.start_session("parent", agent="shell", prompt="; ".join(script))
        await turn_ends(pair, "parent", 1, commands=len(script))

        said = output(await log(pair, "parent"))
        assert codes(said) == dict.fromkeys(
            ("start", "send", "wait", "kid", "watch", "self", "later", "stop"), 0
        ), said
        assert "default/parent" in said
        assert "from its parent" in output(await log(pair, "kid"))
        kid, parent = [await pair.client.get_session(slug) for slug in ("kid", "parent")]
        assert kid.parent_session_id == parent.session_id
        async for event in pair.client.watch("parent"):
            if event.WhichOneof("kind") == "session_ended":
                assert event.session_ended.reason == session_pb2.END_REASON_STOP_REQUESTED
        cancelled = [e for e in await log(pair, "parent") if e.HasField("input_cancelled")]
        assert len(cancelled) == 1
        await reaches(pair, "kid", session_pb2.PHASE_IDLE)
        await pair.kill_all()


async def test_a_stranger_is_not_there_for_an_agent_and_what_it_may_not_do_is_refused(
    tmp_path: Path,
) -> None:
    async with running_pair(tmp_path) as pair:
        await pair.client.start_session("stranger", agent="shell")
        script = [
            told("read", "status stranger"),
            told("watch", "session watch stranger --no-follow"),
            told("transcript", "session transcript stranger"),
            told("send", "session send stranger echo x"),
            told("stop", "session stop stranger"),
            told("kill", "kill stranger"),
            told("approve", "approve parent a1"),
            told("delete", "session delete parent"),
            told("token", "token create mine --right session.read"),
            told("away", "session start kid --agent shell --host elsewhere"),
            told("lax", "session start kid --agent shell --approval allow"),
            told("rule", "session start kid --agent shell --allow Bash"),
        ]
        await pair.client.start_session("parent", agent="shell", prompt="; ".join(script))
        await turn_ends(pair, "parent", 1, commands=len(script))

        said = output(await log(pair, "parent"))
        assert codes(said) == {
            **dict.fromkeys(("read", "watch", "transcript", "send", "stop", "kill"), 3),
            **dict.fromkeys(("approve", "delete", "token", "away", "lax", "rule"), 5),
        }, said
        await reaches(pair, "stranger", session_pb2.PHASE_IDLE)
        slugs = {found.slug async for found in pair.client.list_sessions()}
        assert slugs == {"stranger", "parent"}
        await pair.kill_all()


async def test_a_kill_takes_the_children_along(tmp_path: Path) -> None:
    async with running_pair(tmp_path) as pair:
        script = "bridle session start kid --agent shell 'sleep 771.25'; sleep 771.5"
        await pair.client.start_session("parent", agent="shell", prompt=script)

        async def both() -> bool:
            return bool(bearing("sleep 771.25") and bearing("sleep 771.5"))

        await until(both, "both are at work")
        killed = await pair.cli("kill", "parent", "--wait")
        assert killed.code == 0, killed
        for slug in ("kid", "parent"):
            assert (await pair.client.get_session(slug)).phase == session_pb2.PHASE_KILLED
        assert bearing("sleep 771.") == []


async def test_no_identity_of_another_agent_reaches_an_agent_and_settings_do(
    tmp_path: Path,
) -> None:
    others = ("CLAUDECODE", "CLAUDE_CODE_SESSION_ID", "CODEX_SANDBOX", "GEMINI_CLI", "OPENCODE")
    mine = ("ANTHROPIC_API_KEY", "CLAUDE_CONFIG_DIR", "CODEX_HOME", "OPENAI_API_KEY")
    given = {**dict.fromkeys((*others, *mine), "given"), "BRIDLE_SESSION": "given"}
    async with running_pair(tmp_path, host_environment=given) as pair:
        await pair.client.start_session("x", agent="shell", prompt="env")
        await turn_ends(pair, "x", 1)
        lines = output(await log(pair, "x")).splitlines()
        assert sorted(line for line in lines if line.endswith("=given")) == sorted(
            f"{name}=given" for name in mine
        )
        assert "BRIDLE_SESSION=x" in lines
        await pair.kill_all()
