"""How an agent comes up: what it can do, its conversation, its login.

Pure. A part of the driver `acp`'s dialect, and used by that only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from acp import schema

from bridle_core.version import VERSION
from bridle_host.drivers.acp import wire
from bridle_host.drivers.acp.standing import Kept, Stage, Standing
from bridle_host.drivers.lines.dialect import Beginning, Order, Ready, Refused, Said

INITIALIZE, SESSION = "initialize", "session"
#: What an agent says about itself is shown up to this many characters.
SHOWN = 120


class Opening:
    """See the module. kept: what there is to take up again."""

    def __init__(self, at: Standing, beginning: Beginning, kept: Kept | None) -> None:
        self._at = at
        self._directory = beginning.directory
        #: The conversation that is to be taken up, "" for a new one.
        self.native = kept.session if kept is not None and beginning.native else ""

    def greet(self) -> Iterable[Order]:
        """The first of all."""
        params = schema.InitializeRequest(
            protocol_version=wire.VERSION,
            client_capabilities=schema.ClientCapabilities(
                fs=schema.FileSystemCapabilities(read_text_file=False, write_text_file=False),
                terminal=False,
            ),
            client_info=schema.Implementation(name="bridle", title="Bridle", version=VERSION),
        )
        yield Order(INITIALIZE, wire.request(INITIALIZE, "initialize", params))

    def initialized(self, answer: wire.Answer) -> Iterator[Said]:
        """What the agent is; then its conversation is asked for."""
        at = self._at
        if answer.failure is not None:
            yield self._refused(f"the agent does not come up: {answer.failure.message}")
            return
        can = wire.value(schema.InitializeResponse, answer.result)
        if can.protocol_version != wire.VERSION:
            spoken = f"version {can.protocol_version} of the Agent Client Protocol"
            yield self._refused(f"the agent speaks {spoken}; here it is version {wire.VERSION}")
            return
        self._take(can)
        if self.native and not (at.resumes or at.loads):
            yield self._refused("the agent can take no conversation up again")
            return
        at.stage = Stage.OPENING
        yield Order(SESSION, self._session())

    def _take(self, can: schema.InitializeResponse) -> None:
        at = self._at
        if can.agent_info is not None:
            info = can.agent_info
            at.agent, at.version = (info.title or info.name)[:SHOWN], info.version[:SHOWN]
        if (abilities := can.agent_capabilities) is not None:
            sessions, prompts = abilities.session_capabilities, abilities.prompt_capabilities
            at.loads = abilities.load_session is True
            at.resumes = sessions is not None and sessions.resume is not None
            at.images = prompts is not None and prompts.image is True
        steering = (can.field_meta or {}).get("steering")
        at.steers = isinstance(steering, Mapping) and steering.get("supported") is True
        ways = [" — ".join(filter(None, (m.name, m.description))) for m in can.auth_methods or []]
        at.login = "; ".join(ways)[: 2 * SHOWN]

    def _session(self) -> bytes:
        where: dict[str, Any] = {"cwd": self._directory, "mcp_servers": []}
        if not self.native:
            new = schema.NewSessionRequest(**where)
            return wire.request(SESSION, "session/new", new)
        if self._at.resumes:
            resume = schema.ResumeSessionRequest(session_id=self.native, **where)
            return wire.request(SESSION, "session/resume", resume)
        load = schema.LoadSessionRequest(session_id=self.native, **where)
        return wire.request(SESSION, "session/load", load)

    def opened(self, answer: wire.Answer) -> Iterator[Said]:
        """The conversation is there, or isn't."""
        at = self._at
        if answer.failure is not None:
            what = "take its conversation up again" if self.native else "begin a conversation"
            why = self.explained(answer.failure)
            yield self._refused(f"the agent can't {what}: {why}")
            return
        if self.native and not at.resumes and not at.replayed:
            # Loading tells the conversation once more; some load what they don't know as empty.
            yield self._refused("the agent has nothing of its conversation any more")
            return
        at.session = self.native
        if not at.session:
            at.session = wire.value(schema.NewSessionResponse, answer.result).session_id
        at.model = _model(answer.result) or at.model
        at.stage = Stage.UP
        yield Ready(" ".join(filter(None, (at.agent, at.version))), resumed=bool(self.native))

    def explained(self, failure: wire.Failure) -> str:
        """For people, with the way out."""
        if failure.code != wire.LOGIN_NEEDED:
            return failure.message
        how = self._at.login or "see its documentation"
        return f"it wants a login on this host ({failure.message}); how: {how}"

    def _refused(self, message: str) -> Refused:
        self._at.stage = Stage.REFUSED
        return Refused(message)


def _model(result: object) -> str:
    """The model's name, where an agent tells it among its settings; else ""."""
    if not isinstance(result, Mapping):
        return ""
    models = result.get("models")
    if isinstance(models, Mapping) and isinstance(name := models.get("currentModelId"), str):
        return name[:SHOWN]
    options = result.get("configOptions")
    for option in options if isinstance(options, list) else []:
        if isinstance(option, Mapping) and option.get("category") == "model":
            value = option.get("currentValue")
            return value[:SHOWN] if isinstance(value, str) else ""
    return ""
