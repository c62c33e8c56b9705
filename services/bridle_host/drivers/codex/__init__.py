"""The driver `codex`: OpenAI's Codex, spoken to by its app server.

`dialect` is the conversation, on `course` (its turns), `rpc` (its lines), `items` (what it does in
a turn), `asks` (what it wants leave for), `notices` (what it tells beside), `standing` (what is
kept) and `launch` (how it is started); none of these knows a process. What users see of it is
written down in docs/agents.md. Made by the host's registry.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import partial

from bridle_core.observations import Capability
from bridle_host.drivers.base import Driver, DriverContext, Installation
from bridle_host.drivers.codex import launch
from bridle_host.drivers.codex.dialect import CodexDialect
from bridle_host.drivers.lines.driver import LineDriver

#: The version that this driver is tested with.
TESTED = "0.169.0"
HINT = f"npm install --global @openai/codex@{TESTED}, then `codex login`"


class CodexFactory:
    """See `DriverFactory`. `agent_command`: how `codex` is called, see `launch`."""

    name = "codex"
    capabilities = frozenset(
        {
            Capability.NATIVE_RESUME,
            Capability.STEER,
            Capability.APPROVALS,
            Capability.IMAGES,
            Capability.BACKGROUND,
        }
    )

    def probe(self) -> Installation:
        path = shutil.which(launch.PROGRAM)
        if path is None:
            return Installation(installed=False, hint=HINT)
        try:
            told = subprocess.run(
                [path, "--version"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=10,
                check=True,
            ).stdout.decode("utf-8", "replace")
        except (OSError, subprocess.SubprocessError):
            return Installation(installed=False, hint=f"{path} does not run; {HINT}")
        found = re.search(r"\d+\.\d+\.\d+\S*", told)
        return Installation(installed=True, version=found[0] if found else "")

    def create(self, context: DriverContext) -> Driver:
        return LineDriver(context, partial(CodexDialect, launch.parse(context.agent_command)))
