"""How Codex is started: its command line, and what a thread is told at its beginning.

Pure. The user's agent command is that of `codex` itself: a program, and flags as on its command
line. What Bridle adds stands before them, so that they have the last word. Used by the dialect and
the factory.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bridle_host.drivers.lines.dialect import Launch

PROGRAM = "codex"
SERVER = "app-server"

SANDBOXES = ("read-only", "workspace-write", "danger-full-access")
POLICIES = ("untrusted", "on-request", "never")

#: What is said on the command line of `codex`, and here to the thread.
_SANDBOX = ("-s", "--sandbox")
_POLICY = ("-a", "--ask-for-approval")
_MODEL = ("-m", "--model")
#: How the app server is spoken to is ours to say.
_OURS = ("--listen", "--stdio")
_BYPASS = ("--yolo", "--dangerously-bypass-approvals-and-sandbox")


@dataclass(frozen=True, slots=True)
class Command:
    """An agent command, taken apart.

    program: words up to the app server; flags: those behind it. By default every command is asked
    about that codex does not know for harmless, whatever its sandbox would let happen: leave is
    given by Bridle's rules, and these have to see it to give it.
    """

    program: tuple[str, ...] = (PROGRAM,)
    flags: tuple[str, ...] = ()
    sandbox: str = "workspace-write"
    policy: str = "untrusted"
    model: str = ""


def parse(command: str) -> Command:
    """Raises ValueError with a line for people."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ValueError(f"codex: the agent command cannot be read: {error}") from None
    program, given = _split(words)
    flags: list[str] = []
    chosen: dict[str, str] = {}
    rest = list(given)
    while rest:
        word = rest.pop(0)
        flag, equals, value = word.partition("=")
        if word in _BYPASS:
            chosen |= {"sandbox": SANDBOXES[-1], "policy": POLICIES[-1]}
        elif (name := _NAMES.get(flag)) is not None:
            if not equals:
                if not rest:
                    raise ValueError(f"codex: the agent command: {flag} needs a value")
                value = rest.pop(0)
            chosen[name] = value
        elif flag in _OURS:
            raise ValueError(f"codex: the agent command: {flag} is Bridle's own")
        else:
            flags.append(word)
    made = Command(program, tuple(flags), **chosen)
    for value, known in ((made.sandbox, SANDBOXES), (made.policy, POLICIES)):
        if value not in known:
            raise ValueError(f"codex: the agent command: {value!r} is none of {', '.join(known)}")
    return made


def launch(command: Command, environment: Mapping[str, str]) -> Launch:
    """environment: the session's."""
    settings: dict[str, object] = {
        # A model server that can't be reached ends the turn; else codex would try for ever.
        "features.unbounded_connection_retries": False,
        # Nobody sees a hint at a newer version here, and nobody has agreed to be counted.
        "check_for_update_on_startup": False,
        "analytics.enabled": False,
        # A login shell would set PATH anew, and lose the `bridle` command of the session.
        "allow_login_shell": False,
        # From inside the sandbox too the agent reaches control, and leaves its artifacts.
        "sandbox_workspace_write.network_access": True,
    }
    if artifacts := environment.get("BRIDLE_ARTIFACTS"):
        settings["sandbox_workspace_write.writable_roots"] = [artifacts]
    ours: list[str] = []
    for name, value in settings.items():
        # What JSON writes of these is TOML as well.
        ours += ("-c", f"{name}={json.dumps(value, ensure_ascii=False)}")
    argv = (*command.program, SERVER, *ours, *command.flags)
    # Its log, which becomes notes, without colours; commands get this variable from codex anyway.
    return Launch(argv, {"NO_COLOR": "1"})


def thread(command: Command, directory: str) -> dict[str, object]:
    """What a thread is begun or resumed with."""
    params: dict[str, object] = {
        "cwd": directory,
        "approvalPolicy": command.policy,
        # Asked are the people who hold the session, not a model.
        "approvalsReviewer": "user",
        "sandbox": command.sandbox,
    }
    return params | ({"model": command.model} if command.model else {})


_NAMES: Mapping[str, str] = {
    **dict.fromkeys(_SANDBOX, "sandbox"),
    **dict.fromkeys(_POLICY, "policy"),
    **dict.fromkeys(_MODEL, "model"),
}


def _split(words: Sequence[str]) -> tuple[tuple[str, ...], Sequence[str]]:
    """What stands before the app server's flags, and these."""
    if not words:
        return (PROGRAM,), ()
    if SERVER in words:
        at = words.index(SERVER)
        return tuple(words[:at]) or (PROGRAM,), words[at + 1 :]
    at = next((i for i, word in enumerate(words) if word.startswith("-")), len(words))
    return tuple(words[:at]) or (PROGRAM,), words[at:]
