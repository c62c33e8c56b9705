"""How a Claude Code process is started: its command line, its environment, its conversation's id.

Pure, except for the look at PATH. The agent command of a session is the command line of `claude`,
with whatever flags its user wants; Bridle adds those of the protocol behind it. Used by the
driver `claude` only.
"""

from __future__ import annotations

import re
import shlex
import uuid

from bridle_core import values
from bridle_host.drivers.claude.state import Kept
from bridle_host.drivers.lines.dialect import Beginning, Launch

PACKAGE = "@anthropic-ai/claude-code"
#: What this driver was proven with, and the oldest that is known to speak as it expects.
PROVEN = "2.1.328"
OLDEST = (2, 1, 328)

#: Always the same names for the same things: see `Order.key` on what has to be.
_NAMES = uuid.UUID("5f0d6a0c-3c5b-4c0e-9a53-0e7a4b1d7c11")

_PROTOCOL = (
    "-p",
    "--input-format",
    "stream-json",
    "--output-format",
    "stream-json",
    "--verbose",
    "--include-partial-messages",
    # Each message is said back when the model gets it, which tells where it came in.
    "--replay-user-messages",
    # The agent asks us, whatever the session's policy is: that is decided by Bridle.
    "--permission-prompt-tool",
    "stdio",
)
#: What only Bridle may say: what the protocol is, and which conversation it is about.
_RESERVED = frozenset(
    {
        *(flag for flag in _PROTOCOL if flag.startswith("-")),
        "--print",
        "--session-id",
        "--resume",
        "-r",
        "--continue",
        "-c",
        "--fork-session",
        "--from-pr",
        "--no-session-persistence",
    }
)
#: Variables that the protocol needs, and one that keeps the program the same while it runs.
ENVIRONMENT = {"CLAUDE_CODE_EMIT_SESSION_STATE_EVENTS": "1", "DISABLE_AUTOUPDATER": "1"}


def command(agent_command: str) -> tuple[str, ...]:
    """The user's command line; flags alone are flags for `claude`. Raises ValueError."""
    try:
        words = shlex.split(agent_command)
    except ValueError as error:
        raise ValueError(f"claude: the agent command cannot be read: {error}") from None
    if not words or words[0].startswith("-"):
        words = ["claude", *words]
    for word in words[1:]:
        if word.split("=", 1)[0] in _RESERVED:
            raise ValueError(f"claude: the agent command may not say {word!r}: Bridle does")
    return tuple(words)


def launch(program: tuple[str, ...], conversation: str, *, native: bool) -> Launch:
    """With `=`, so that no value can become a flag."""
    flag = "--resume" if native else "--session-id"
    return Launch((*program, *_PROTOCOL, f"{flag}={conversation}"), ENVIRONMENT)


def name_of(*parts: object) -> str:
    """A uuid that is always the same for the same thing."""
    return str(uuid.uuid5(_NAMES, "/".join(map(str, parts))))


def is_name(text: str) -> bool:
    """Whether it is a uuid, as the agent writes them."""
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def conversation_of(beginning: Beginning) -> tuple[str, Kept | None]:
    """The agent's id of the conversation that a process is started with, and what was kept.

    Raises ValueError with a line for people where it is to be taken up and isn't known.
    """
    kept = None
    if beginning.kept:
        try:
            kept = values.load(Kept, beginning.kept)
        except ValueError:
            kept = None
        if kept is None or not is_name(kept.conversation):
            raise ValueError("claude: what was kept of the conversation is unreadable")
    if not beginning.native:
        return name_of(beginning.session_id, beginning.run, beginning.serial), kept
    if kept is None:
        raise ValueError("claude: there is no conversation to take up again")
    return kept.conversation, kept


def version(told: str) -> tuple[int, ...] | None:
    """The numbers of a version; None where there are none."""
    found = re.match(r"\s*v?(\d{1,6})\.(\d{1,6})\.(\d{1,6})", told)
    return tuple(map(int, found.groups())) if found else None


def too_old(told: str) -> str:
    """What to say of a version that is older than the oldest; "" of others.

    One that can't be read is taken for newer.
    """
    numbers = version(told)
    if numbers is None or numbers >= OLDEST:
        return ""
    oldest = ".".join(map(str, OLDEST))
    return (
        f"Claude Code {told[:40]} is too old: {oldest} is the oldest that works; {install_hint()}"
    )


def install_hint() -> str:
    """How to get it. Under an older Node, npm takes an older one unless it is told which."""
    return f"install it with: npm install -g {PACKAGE}@{PROVEN}"
