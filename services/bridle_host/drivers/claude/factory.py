"""The kind of agent `claude`: looks whether Claude Code is there, and makes its drivers.

Made by the host's registry.
"""

from __future__ import annotations

import shutil
import subprocess
from functools import partial

from bridle_core.observations import Capability
from bridle_host.drivers.base import Driver, DriverContext, Installation
from bridle_host.drivers.claude import launch
from bridle_host.drivers.claude.dialect import ClaudeDialect
from bridle_host.drivers.lines.driver import LineDriver

#: The program unpacks itself when it is called for the first time; in seconds.
PROBE_TIMEOUT = 30.0


class ClaudeFactory:
    """See `DriverFactory`. `agent_command`: a command line of `claude`, or flags for it."""

    name = "claude"
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
        path = shutil.which("claude")
        if path is None:
            return Installation(installed=False, hint=launch.install_hint())
        try:
            told = subprocess.run(
                [path, "--version"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=PROBE_TIMEOUT,
                check=True,
            ).stdout.decode("utf-8", "replace")
        except (OSError, subprocess.SubprocessError):
            hint = f"{path} does not run; {launch.install_hint()}"
            return Installation(installed=False, hint=hint)
        numbers = launch.version(told)
        if numbers is None:
            hint = f"{path} is not Claude Code; {launch.install_hint()}"
            return Installation(installed=False, hint=hint)
        version = ".".join(map(str, numbers))
        hint = launch.too_old(version)
        return Installation(installed=not hint, version=version, hint=hint)

    def create(self, context: DriverContext) -> Driver:
        return LineDriver(context, partial(ClaudeDialect, launch.command(context.agent_command)))
