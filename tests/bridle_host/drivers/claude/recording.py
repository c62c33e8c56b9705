"""Records what the dialect and the real program say to each other, for `playing.py`.

    python -m tests.bridle_host.drivers.claude.recording [NAME…]

Installs the pinned program if it is missing, and runs it offline against the scripted model. What
is recorded is cut down to what matters and names nobody: a test that plays it is short.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from bridle_core.observations import ApprovalAsked, Steered, ToolStarted
from bridle_host.drivers.lines.dialect import Began, Ended, Ready, Said
from scripts.agents import install
from tests.agents import environment
from tests.bridle_host.drivers.claude.playing import (
    DIRECTORY,
    RECORDED,
    Speaker,
    dialect,
)
from tests.model_server import (
    ModelServer,
    call,
    cut,
    error,
    gate,
    model_server,
    say,
    stop,
    think,
    tool,
    turn,
)

#: Fields that no reader looks at: long, or of one machine and day.
_DROPPED = frozenset(
    """
    account agents analytics_disabled apiKeySource available_output_styles capabilities commands
    contextWindow context_management diagnostics duration_api_ms duration_ms
    fast_mode_disabled_reason fast_mode_state first_content_frame_ms
    first_request_cache_read_input_tokens first_request_input_tokens maxOutputTokens mcp_servers
    memory_paths modelUsage models output_file owed_rows permission_suggestions pid plugins
    request_sent_wall_ms skills slash_commands stop_details subagent_stats terminal_slash_commands
    thinking_display time_to_request_ms timestamp tools ttft_ms ttft_stream_ms usage
    user_message_uuid user_message_uuids user_output_styles_dir
    """.split()  # noqa: SIM905 - these are words
)


class Program:
    """The real program, and what was said."""

    def __init__(self, room: Path, model: ModelServer) -> None:
        self.speaker = Speaker(dialect())
        self.entries: list[str] = []
        self.model = model
        self.work = room / "project"
        self._room = room
        self._heard = asyncio.Condition()

    async def run(self, scenario: Callable[[Program], Coroutine[Any, Any, None]]) -> None:
        self.work.mkdir()
        launch = self.speaker.dialect.launch()
        path = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
        own = environment.claude(self._room, self.model.url)
        process = await asyncio.create_subprocess_exec(
            *install("claude").argv,
            *launch.argv[1:],
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**path, **own, **launch.environment, "CLAUDE_CODE_ENABLE_TODO_TOOLS": "1"},
            cwd=self.work,
            limit=1 << 24,
        )
        assert process.stdin is not None
        self._stdin = process.stdin
        async with asyncio.TaskGroup() as group:
            group.create_task(self._read(process))
            await self.verb("greet")
            await self.hears(Ready)
            async with asyncio.timeout(120):
                await scenario(self)
            self._stdin.close()
            await process.wait()

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            kept = self._cut(line)
            self.entries.append(f"< {kept}")
            self._write([], self.speaker.hear(kept.encode()))
            async with self._heard:
                self._heard.notify_all()

    def _write(self, verb: list[Any], orders: list[bytes]) -> None:
        if orders:
            wrote = [json.loads(data) for data in orders]
            self.entries.append("> " + json.dumps({"verb": verb, "wrote": wrote}))
            self._stdin.write(b"".join(orders))

    async def verb(self, name: str, *arguments: Any) -> None:
        self._write([name, list(arguments)], self.speaker.verb(name, arguments))
        await self._stdin.drain()

    async def hears(self, kind: type[Any], times: int = 1) -> Any:
        """Waits until something was said so often."""

        def found() -> list[Said]:
            return [one for one in self.speaker.said if isinstance(one, kind)]

        async with asyncio.timeout(60), self._heard:
            await self._heard.wait_for(lambda: len(found()) >= times)
        return found()[-1]

    def _cut(self, line: bytes) -> str:
        text = json.dumps(_without(json.loads(line)), ensure_ascii=False, separators=(",", ":"))
        return text.replace(str(self.work), DIRECTORY).replace(str(self._room), "/home/user")


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without(one) for key, one in value.items() if key not in _DROPPED}
    return [_without(one) for one in value] if isinstance(value, list) else value


# --- What is recorded ----------------------------------------------------------------------------


async def words(program: Program) -> None:
    """Text, thoughts, a picture among what is asked."""
    await program.verb("begin", 1, turn("T1", say(3)) + "\n#picture")
    await program.hears(Ended)
    await program.verb("begin", 2, turn("T2", think(2), say(2)))
    await program.hears(Ended, 2)


async def calls(program: Program) -> None:
    """Tools: one that works, one that fails, one that is denied, one that does not exist."""
    await program.verb("begin", 1, turn("T1", say(1), tool("echo out; echo err >&2"), say(1)))
    await program.hears(Ended)
    await program.verb("begin", 2, turn("T2", tool("touch made; echo bad; exit 3"), say(1)))
    asked = await program.hears(ApprovalAsked)
    await program.verb("respond", "turn-2", asked.approval_id, "ALLOW", "")
    await program.hears(Ended, 2)
    await program.verb("begin", 3, turn("T3", tool("touch never"), say(1)))
    asked = await program.hears(ApprovalAsked, 2)
    await program.verb("respond", "turn-3", asked.approval_id, "DENY", "not today")
    await program.hears(Ended, 3)
    await program.verb("begin", 4, turn("T4", call("Nonesuch", {"a": 1}), say(1)))
    await program.hears(Ended, 4)


async def plans(program: Program) -> None:
    """The task list: made, moved, read; a question to the user, answered."""
    for number, (name, arguments) in enumerate(
        (
            ("TaskCreate", {"subject": "dig", "description": "dig a hole"}),
            ("TaskCreate", {"subject": "fill", "description": "fill it"}),
            ("TaskUpdate", {"taskId": "1", "status": "in_progress"}),
            ("TaskUpdate", {"taskId": "1", "status": "completed"}),
            ("TaskList", {}),
            ("TaskUpdate", {"taskId": "2", "status": "deleted"}),
        ),
        1,
    ):
        await program.verb("begin", number, turn(f"T{number}", call(name, arguments), say(1)))
        await program.hears(Ended, number)
    options = [{"label": "red", "description": "r"}, {"label": "blue", "description": "b"}]
    question = {"question": "Which?", "header": "colour", "multiSelect": False, "options": options}
    asks = call("AskUserQuestion", {"questions": [question]})
    await program.verb("begin", 7, turn("T7", asks, say(1)))
    asked = await program.hears(ApprovalAsked)
    await program.verb("respond", "turn-7", asked.approval_id, "ALLOW", "blue")
    await program.hears(Ended, 7)


async def interrupts(program: Program) -> None:
    """At once, in a text, in an approval, in a tool; then a turn that knows of them."""
    await program.verb("begin", 1, turn("T1", say(1)))
    await program.hears(Began)
    await program.verb("interrupt", "turn-1", False)
    await program.hears(Ended)
    await program.verb("begin", 2, turn("T2", say(3), gate("never"), say(1)))
    await program.model.sent("T2", 3)
    await program.verb("interrupt", "turn-2", False)
    await program.hears(Ended, 2)
    await program.verb("begin", 3, turn("T3", tool("touch never"), say(1)))
    await program.hears(ApprovalAsked)
    await program.verb("interrupt", "turn-3", False)
    await program.hears(Ended, 3)
    await program.verb("begin", 4, turn("T4", tool("echo on; until test -e never; do :; done")))
    await program.hears(ToolStarted, 2)
    asked = await program.hears(ApprovalAsked, 2)
    await program.verb("respond", "turn-4", asked.approval_id, "ALLOW", "")
    await asyncio.sleep(0.5)
    await program.verb("interrupt", "turn-4", False)
    await program.hears(Ended, 4)
    await program.verb("begin", 5, turn("T5", say(1)))
    await program.hears(Ended, 5)


async def steers(program: Program) -> None:
    """Into a tool's gap; into a text, behind which it goes on; taken back by an interrupt."""
    hold = "touch here; until test -e go; do sleep 0.05; done"
    await program.verb("begin", 1, turn("T1", tool(hold), say(1)))
    asked = await program.hears(ApprovalAsked)
    await program.verb("respond", "turn-1", asked.approval_id, "ALLOW", "")
    await asyncio.sleep(0.2)
    await program.verb("steer", "turn-1", "one", turn("S1", say(1)))
    await asyncio.sleep(0.2)
    (program.work / "go").touch()
    await program.hears(Ended)
    await program.verb("begin", 2, turn("T2", say(2), gate("go"), say(1)))
    await program.model.sent("T2", 2)
    await program.verb("steer", "turn-2", "two", turn("S2", say(1)))
    await asyncio.sleep(0.2)
    program.model.open("go")
    await program.hears(Steered, 2)
    await program.hears(Ended, 2)
    await program.verb("begin", 3, turn("T3", say(2), gate("never"), say(1)))
    await program.model.sent("T3", 2)
    await program.verb("steer", "turn-3", "three", turn("S3", say(1)))
    await asyncio.sleep(0.2)
    await program.verb("interrupt", "turn-3", False)
    await program.hears(Ended, 3)


async def errors(program: Program) -> None:
    """A request that is refused, a limit, a refusal of the model, a model that fails and comes."""
    await program.verb("begin", 1, turn("T1", error(400)))
    await program.hears(Ended)
    await program.verb("begin", 2, turn("T2", say(1), stop("refusal")))
    await program.hears(Ended, 2)
    await program.verb("begin", 3, turn("T3", say(2), cut()))
    await program.model.asked("T3", 2)
    await program.verb("interrupt", "turn-3", False)
    await program.hears(Ended, 3)
    program.model.failing = 500
    await program.verb("begin", 4, turn("T4", say(1)))
    await asyncio.sleep(2)
    program.model.failing = None
    await program.hears(Ended, 4)


async def background(program: Program) -> None:
    """A job that ends behind its turn, and the turn that the agent begins for it; one stopped."""
    job = {"command": "touch job; sleep 1", "description": "a job", "run_in_background": True}
    await program.verb("begin", 1, turn("T1", call("Bash", job), say(1)))
    asked = await program.hears(ApprovalAsked)
    await program.verb("respond", "turn-1", asked.approval_id, "ALLOW", "")
    await program.hears(Ended, 2)
    job["command"] = "touch job; sleep 99"
    await program.verb("begin", 2, turn("T2", call("Bash", job), say(1), gate("never"), say(1)))
    asked = await program.hears(ApprovalAsked, 2)
    await program.verb("respond", "turn-2", asked.approval_id, "ALLOW", "")
    await program.model.sent("T2", 1)
    await program.verb("interrupt", "turn-2", False)
    await program.hears(Ended, 3)
    await asyncio.sleep(1)


async def sub_agents(program: Program) -> None:
    """One that the turn waits for, one that outlives it. What they say is not scripted."""
    task = {"description": "dig", "subagent_type": "general-purpose", "prompt": "dig"}
    waits = call("Task", {**task, "run_in_background": False})
    await program.verb("begin", 1, turn("T1", waits, say(1)))
    await program.hears(Ended)
    await program.verb("begin", 2, turn("T2", call("Task", task), say(1)))
    await program.hears(Ended, 2)
    await asyncio.sleep(2)


SCENARIOS = {
    scenario.__name__: scenario
    for scenario in (words, calls, plans, interrupts, steers, errors, background, sub_agents)
}


async def record(name: str) -> None:
    """Writes one recording anew."""
    with environment.room() as room:
        async with model_server() as model:
            program = Program(room, model)
            await program.run(SCENARIOS[name])
        (RECORDED / f"{name}.txt").write_text("\n".join(program.entries) + "\n")
        print(f"{name}: {len(program.entries)} lines", *program.speaker.unreadable, sep="\n  ")
        shutil.rmtree(room, ignore_errors=True)


async def main() -> None:
    for name in sys.argv[1:] or SCENARIOS:
        await record(name)


if __name__ == "__main__":
    asyncio.run(main())
