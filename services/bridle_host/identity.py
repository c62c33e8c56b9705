"""What an agent is told about its session: environment variables and the file with its token.

Called by the session actor before the agent starts, and when control sends a fresh token. The token
itself stands in no environment and in no command line, only in its file of mode 0600.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

#: Identities of a session that the host service itself may have been started in. An agent that
#: inherits them takes itself for a part of that session. By how their names begin.
INHERITED = ("AI_AGENT", "BRIDLE_", "CLAUDECODE", "CLAUDE_CODE_", "CODEX_")
#: The same, of whole names.
INHERITED_NAMES = frozenset(
    {
        "AGENT",
        "CLAUDE_EFFORT",
        "CLAUDE_ENV_FILE",
        "CLAUDE_PID",
        "CLAUDE_PROJECT_DIR",
        "CURSOR_AGENT",
        "CURSOR_TRACE_ID",
        "GEMINI_CLI",
        "GOOSE_TERMINAL",
        "OPENCODE",
        "OPENCODE_CLIENT",
        "OPENCODE_PID",
        "OPENCODE_PROCESS_ROLE",
        "OPENCODE_RUN_ID",
        "OPENCODE_TERMINAL",
        "QWEN_CODE",
    }
)
#: Names that begin like those and are settings of the user: who pays, by which way, and how much.
SETTINGS = (
    "CLAUDE_CODE_API_KEY_",
    "CLAUDE_CODE_CLIENT_",
    "CLAUDE_CODE_DISABLE_",
    "CLAUDE_CODE_ENABLE_",
    "CLAUDE_CODE_EXTRA_",
    "CLAUDE_CODE_MAX_",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "CLAUDE_CODE_SKIP_",
    "CLAUDE_CODE_SUBAGENT_MODEL",
    "CLAUDE_CODE_USE_",
    "CODEX_ACCESS_TOKEN",
    "CODEX_API_KEY",
    "CODEX_CA_CERTIFICATE",
    "CODEX_HOME",
    "CODEX_SQLITE_HOME",
)
#: What systemd, or a build system, tells the host service about itself, and about nobody that it
#: starts: what an agent calls is no part of the trace that the host service was started in.
SERVICE_NAMES = frozenset(
    {
        "CREDENTIALS_DIRECTORY",
        "INVOCATION_ID",
        "JOURNAL_STREAM",
        "LISTEN_FDNAMES",
        "LISTEN_FDS",
        "LISTEN_PID",
        "MAINPID",
        "NOTIFY_SOCKET",
        "SYSTEMD_EXEC_PID",
        "TRACEPARENT",
        "TRACESTATE",
        "WATCHDOG_PID",
        "WATCHDOG_USEC",
    }
)


@dataclass(frozen=True, slots=True)
class SessionIdentity:
    """Who the agent is. `address` is control's HOST:PORT; the paths are absolute.

    `connection`: variables that say how control is spoken to.
    """

    address: str
    workspace: str
    slug: str
    session_id: str
    token_file: Path
    artifacts: Path
    connection: Mapping[str, str] = field(default_factory=dict)


def session_environment(
    inherited: Mapping[str, str],
    asked: Mapping[str, str],
    identity: SessionIdentity,
    command_directory: str | None,
) -> dict[str, str]:
    """The whole environment of a session's processes (the shim adds its mark).

    `inherited` is the host service's own, `asked` what StartSession wished for; neither can set an
    identity. `command_directory` is where the `bridle` command is; it comes last in PATH.
    """
    environment = {name: value for name, value in inherited.items() if _is_passed_on(name)}
    environment.update(
        {name: value for name, value in asked.items() if not name.startswith("BRIDLE_")}
    )
    environment |= {
        "BRIDLE_ADDRESS": identity.address,
        "BRIDLE_WORKSPACE": identity.workspace,
        "BRIDLE_SESSION": identity.slug,
        "BRIDLE_SESSION_ID": identity.session_id,
        "BRIDLE_TOKEN_FILE": str(identity.token_file),
        "BRIDLE_ARTIFACTS": str(identity.artifacts),
        **identity.connection,
    }
    path = environment.get("PATH") or os.defpath
    if command_directory is not None and command_directory not in path.split(os.pathsep):
        path = path + os.pathsep + command_directory
    environment["PATH"] = path
    return environment


def _is_passed_on(name: str) -> bool:
    if name in INHERITED_NAMES or name in SERVICE_NAMES:
        return False
    return not name.startswith(INHERITED) or name.startswith(SETTINGS)


def command_directory() -> str | None:
    """Where the `bridle` command of this installation is; None when it is nowhere."""
    beside = Path(sys.executable).parent / "bridle"
    found = str(beside) if beside.exists() else shutil.which("bridle")
    return str(Path(found).parent) if found else None


def write_token(path: Path, token: str) -> None:
    """Puts a token into its file, whole or not at all, mode 0600. Raises OSError."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(token + "\n")
        draft.rename(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
