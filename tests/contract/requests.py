"""Requests that keep all rules, for every method of the descriptors, about what a test names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from bridle.host.v1 import host_link_service_pb2
from bridle.v1 import host_service_pb2, identity_service_pb2, session_service_pb2
from bridle_control.ids import uuid7

OWN = (session_service_pb2, host_service_pb2, identity_service_pb2, host_link_service_pb2)


#: Methods that need no host to be named.
_ANY_HOST = frozenset({"StartSession", "Resume", "ListAgents"})


@dataclass(frozen=True)
class About:
    """What a request is about. `session_id` counts before `slug`."""

    workspace: str = ""
    slug: str = "fix-auth"
    session_id: str = ""
    host: str = "box"
    token: str = "ci"
    command_id: str = ""
    input_id: str = "input"
    approval_id: str = "approval"


def own_methods() -> Iterator[MethodDescriptor]:
    """Every method of our own services."""
    for file in OWN:
        for service in file.DESCRIPTOR.services_by_name.values():
            yield from service.methods


def path_of(method: MethodDescriptor) -> str:
    """The method's name as on the wire."""
    return f"/{method.containing_service.full_name}/{method.name}"


def request_for(method: MethodDescriptor, about: About) -> Message:
    """A request of this method that breaks no rule."""
    made: Any = message_factory.GetMessageClass(method.input_type)()
    if method.name == "Connect":
        made.hello.incarnation = made.hello.journal_id = "0194f1a2-0000-7000-8000-000000000001"
        made.hello.protocol_min = made.hello.protocol_max = 1
        return made  # type: ignore[no-any-return]
    if method.name == "Watch":
        _session(made.targets.add().session, about)
        return made  # type: ignore[no-any-return]
    if method.name == "SendArtifact":
        made.read_id = uuid7()
        return made  # type: ignore[no-any-return]
    values = {
        "workspace": about.workspace,
        "slug": f"new-{uuid7()[-12:]}",
        "agent": "shell",
        "host": "" if about.host == "box" and method.name in _ANY_HOST else about.host,
        "name": f"new-{uuid7()[-12:]}",
        "token": about.token,
        "input_id": about.input_id,
        "approval_id": about.approval_id,
        "decision": 1,
    }
    for field in method.input_type.fields:
        if field.name == "session":
            _session(made.session, about)
        elif field.name == "request_id" and method.name != "GetCommand":
            made.request_id = uuid7()
        elif field.name == "command_id":
            made.command_id = about.command_id or uuid7()
        elif field.name == "content":
            made.content.add().text = "hello"
        elif field.name == "rights":
            made.rights.append("session.read")
        elif field.name == "update_mask":
            made.update_mask.paths.append("title")
        elif field.name in values and not field.is_repeated:
            setattr(made, field.name, values[field.name])
    return made  # type: ignore[no-any-return]


def _session(ref: Any, about: About) -> None:
    ref.workspace = about.workspace
    if about.session_id:
        ref.id = about.session_id
    else:
        ref.slug = about.slug
