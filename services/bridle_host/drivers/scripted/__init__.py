"""The driver `scripted`: an agent without a model, which plays each input as a script of steps.

For those who build on Bridle: every fault that an agent can have is a step. The language, for
users, is written down in docs/drivers/scripted.md; `agent` plays it, `wire` is the language between
agent and driver, `dialect` what that means. Made by the host's registry.
"""

from __future__ import annotations

import os
import sys
from functools import partial

from bridle_core.observations import Capability
from bridle_host.drivers.base import Driver, DriverContext, Installation
from bridle_host.drivers.lines.driver import LineDriver
from bridle_host.drivers.scripted import agent as scripted_agent
from bridle_host.drivers.scripted.agent import ScriptError
from bridle_host.drivers.scripted.dialect import ScriptedDialect


class ScriptedFactory:
    """See `DriverFactory`. `agent_command` is a script that the agent plays when it starts."""

    name = "scripted"
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
        version = ".".join(map(str, sys.version_info[:3]))
        return Installation(installed=os.access(sys.executable, os.X_OK), version=version)

    def create(self, context: DriverContext) -> Driver:
        try:
            scripted_agent.parse(context.agent_command)
        except ScriptError as error:
            raise ValueError(f"scripted: the agent command: {error}") from None
        program = (sys.executable, "-I", "-S", "-X", "utf8", scripted_agent.__file__)
        return LineDriver(context, partial(ScriptedDialect, (*program, context.agent_command)))
