"""The shell driver: a bash that stays, each turn a script that runs in it.

A turn is one tool call, "bash": what the script prints is the tool's output, its exit status is the
result. The bash of a run keeps its directory, variables, functions and background jobs from turn to
turn. What users see of it is written down in docs/drivers/shell.md.

`driver` lives through a run; `bash` is one bash under its shim; `control` is the language between
the two; `turn`, `standing` and `state` are values. Made by the host's registry.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess

from bridle_core.observations import Capability
from bridle_host.drivers.base import Driver, DriverContext, Installation
from bridle_host.drivers.shell.driver import ShellDriver

#: The first bash with all that `control` uses.
OLDEST = (4, 3)


class ShellFactory:
    """See `DriverFactory`. `agent_command`, where it is given, names the bash to run."""

    name = "shell"
    capabilities = frozenset({Capability.BACKGROUND})

    def probe(self) -> Installation:
        path = shutil.which("bash")
        hint = "install bash, 4.3 or newer: sudo apt install bash"
        if path is None:
            return Installation(installed=False, hint=hint)
        try:
            told = subprocess.run(
                [path, "--norc", "--version"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=10,
                check=True,
            ).stdout.decode("utf-8", "replace")
        except (OSError, subprocess.SubprocessError):
            return Installation(installed=False, hint=f"{path} does not run; {hint}")
        found = re.search(r"version (\d+)\.(\d+)\S*", told)
        if found is None or (int(found[1]), int(found[2])) < OLDEST:
            return Installation(installed=False, hint=f"{path} is too old or no bash; {hint}")
        return Installation(installed=True, version=found[0].removeprefix("version "))

    def create(self, context: DriverContext) -> Driver:
        try:
            words = shlex.split(context.agent_command)
        except ValueError as error:
            raise ValueError(f"shell: the agent command cannot be read: {error}") from None
        if len(words) > 1:
            raise ValueError("shell: the agent command is the path of a bash, and nothing more")
        return ShellDriver(context, words[0] if words else "bash")
