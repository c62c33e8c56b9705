"""The driver `acp`: any agent that speaks the Agent Client Protocol, by its command line.

`dialect` is the conversation, on `opening` (how the agent comes up), `course` (its turns), `words`,
`calls` and `leave` (what is open in a turn), `wire` (its lines), `standing` (what is kept) and
`launch` (how it is started); none of these knows a process. The protocol's values are those of the
library `agent-client-protocol`; its schema is used, and nothing else of it. What users see is
written down in docs/agents.md. Made by the host's registry.
"""

from __future__ import annotations

import importlib

from bridle_core.observations import Capability
from bridle_host.drivers.acp import launch
from bridle_host.drivers.base import Driver, DriverContext, Installation
from bridle_host.drivers.lines.dialect import Beginning, Dialect
from bridle_host.drivers.lines.driver import LineDriver

_DIALECT = "bridle_host.drivers.acp.dialect"


class AcpFactory:
    """See `DriverFactory`. `agent_command`: the agent's command line."""

    name = "acp"
    #: The most that an agent can do; what one can't, its session tells.
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
        # Which agent it will be, each session says; whether that is there is seen at its start.
        return Installation(installed=True)

    def create(self, context: DriverContext) -> Driver:
        argv = launch.parse(context.agent_command)

        def speak(beginning: Beginning, standing: bytes | None) -> Dialect:
            # The schema takes a third of a second and 30 MB, which hosts without such a session
            # are spared, and the others' loop.
            from bridle_host.drivers.acp.dialect import AcpDialect

            return AcpDialect(argv, beginning, standing)

        return LineDriver(context, speak, lambda: importlib.import_module(_DIALECT))
