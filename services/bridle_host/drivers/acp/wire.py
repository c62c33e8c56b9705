"""The lines of the Agent Client Protocol: JSON-RPC 2.0, one message a line.

Pure: bytes to values and back. What the agent says is hostile: a message is looked at here, its
parameters by the models of `acp.schema`, which leave out a field that is wrong where the protocol
can do without. Importing this takes a third of a second and 30 MB, hence the factory does it late.
Used by the driver `acp` only.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from bridle_core.utf8 import clean
from bridle_host.drivers.lines.dialect import UnreadableError

#: The one version of the protocol that is spoken here.
VERSION = 1
#: An agent prints a picture or a file in one line; and still there is an end to it.
LINE = 8 * 1024 * 1024
#: JSON-RPC's code for a method that isn't there, and ACP's for a login that is missing.
NO_METHOD = -32601
LOGIN_NEEDED = -32000
#: How long an id of the agent may be, as JSON.
ID = 128

Id = int | str


@dataclass(frozen=True, slots=True)
class Failure:
    """An answer that is an error. The message is the agent's own, for people."""

    code: int
    message: str


@dataclass(frozen=True, slots=True)
class Answer:
    """To a request of ours, by its id: `result`, or `failure`."""

    id: str
    result: object = field(default=None, repr=False)
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """A request of the agent, which is owed an answer."""

    id: Id
    method: str
    params: object = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Told:
    """A notification of the agent."""

    method: str
    params: object = field(default=None, repr=False)


Message = Answer | Asked | Told
Model = TypeVar("Model", bound=BaseModel)


def read(line: bytes) -> Message:
    """Raises UnreadableError."""
    try:
        # As text: of bytes json would guess whether they are UTF-16 or UTF-32.
        said = json.loads(line.decode())
        if b"\\ud" in line or b"\\uD" in line:
            said = _cleaned(said)
    except (ValueError, RecursionError):
        raise UnreadableError("it is no JSON") from None
    if not isinstance(said, dict):
        raise UnreadableError("it is no object")
    method, identity = said.get("method"), said.get("id")
    if method is None:
        return _answer(said)
    if not isinstance(method, str) or not method:
        raise UnreadableError("its method is no name")
    if "id" not in said:
        return Told(method, said.get("params"))
    if isinstance(identity, bool) or not isinstance(identity, int | str):
        raise UnreadableError("its id is none")
    if len(json.dumps(identity)) > ID:
        raise UnreadableError("its id is too long")
    return Asked(identity, method, said.get("params"))


def _answer(said: dict[str, object]) -> Answer:
    identity = said.get("id")
    if not isinstance(identity, str):
        raise UnreadableError("it answers nothing that was asked")
    if "error" not in said:
        return Answer(identity, said.get("result"))
    error = said["error"]
    if not isinstance(error, dict):
        raise UnreadableError("its error is no object")
    code, message = error.get("code"), error.get("message")
    if not isinstance(message, str) or not message:
        message = "the agent gave no reason"
    return Answer(
        identity,
        failure=Failure(code if isinstance(code, int) else 0, _with_details(message, error)),
    )


def _with_details(message: str, error: dict[str, object]) -> str:
    """Agents there are that say "Internal error", and why it is in the data."""
    data = error.get("data")
    details: object = data
    if isinstance(data, dict):
        details = data.get("details") or data.get("message") or data.get("error")
    if isinstance(details, str) and details and details not in message:
        message = f"{message}: {details}"
    return message[:4096]


def _cleaned(value: object) -> object:
    """Without halves of surrogate pairs, which are no text that could be stored."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [_cleaned(one) for one in value]
    if isinstance(value, dict):
        return {clean(name): _cleaned(one) for name, one in value.items()}
    return value


def value(model: type[Model], raw: object) -> Model:
    """Parameters or a result as what they should be. Raises UnreadableError."""
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"]))[:100]
        raise UnreadableError(f"it is no {model.__name__}: {where}: {first['msg']}") from None
    except RecursionError:
        raise UnreadableError(f"it is no {model.__name__}") from None


def request(identity: Id, method: str, params: BaseModel | None = None) -> bytes:
    """A request of ours."""
    return _line({"id": identity, "method": method, "params": _plain(params)})


def tell(method: str, params: BaseModel) -> bytes:
    """A notification of ours."""
    return _line({"method": method, "params": _plain(params)})


def answer(identity: Id, result: BaseModel) -> bytes:
    """The answer to a request of the agent."""
    return _line({"id": identity, "result": _plain(result)})


def refuse(identity: Id, method: str) -> bytes:
    """The answer to a request for what isn't there."""
    message = f"Method not found: {method[:100]}"
    return _line({"id": identity, "error": {"code": NO_METHOD, "message": message}})


def _plain(params: BaseModel | None) -> object:
    if params is None:
        return {}
    return params.model_dump(mode="json", by_alias=True, exclude_none=True)


def _line(fields: dict[str, object]) -> bytes:
    return json.dumps({"jsonrpc": "2.0", **fields}).encode("ascii") + b"\n"
