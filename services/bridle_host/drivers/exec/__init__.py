"""The driver `exec`: any command-line agent, one process for each turn, by a template.

For users it is written down in docs/drivers/exec.md. `template` reads the command, `runner` is the
small program that stays for the run and starts the agent's process in each turn, `dialect` what its
lines mean. Made by the host's registry.
"""

from __future__ import annotations

import os
import sys
from functools import partial

from bridle_core.observations import Capability
from bridle_host.drivers.base import Driver, DriverContext, Installation
from bridle_host.drivers.exec import runner
from bridle_host.drivers.exec.dialect import ExecDialect
from bridle_host.drivers.exec.template import parse
from bridle_host.drivers.lines.driver import LineDriver


class ExecFactory:
    """See `DriverFactory`. `agent_command` is the template, which there has to be."""

    name = "exec"
    capabilities = frozenset({Capability.NATIVE_RESUME, Capability.BACKGROUND})

    def probe(self) -> Installation:
        """What runs the command is there; whether the command is, each session tells."""
        return Installation(installed=os.access(sys.executable, os.X_OK))

    def create(self, context: DriverContext) -> Driver:
        template = parse(context.agent_command)
        program = (sys.executable, "-I", "-S", "-X", "utf8", runner.__file__)
        return LineDriver(context, partial(ExecDialect, program, template))
