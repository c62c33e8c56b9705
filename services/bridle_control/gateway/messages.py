"""Requests and answers on their way through connectrpc: carried, and parsed by others.

A request is parsed by the gate, once its caller is known, and an answer of a Watch is bytes that
were made once for all watchers. So connectrpc gets codecs that leave bytes alone; only an answer
that is to be JSON is made into it here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from connectrpc.code import Code
from connectrpc.codec import Codec
from connectrpc.errors import ConnectError
from google.protobuf import json_format
from google.protobuf.message import Message


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it came."""

    raw: bytes
    is_json: bool

    def __len__(self) -> int:
        return len(self.raw)

    def parse(self, message_class: type[Message]) -> Message:
        """Raises ValueError, or protobuf's DecodeError."""
        if not self.is_json:
            return message_class.FromString(self.raw)
        if not self.raw.lstrip().startswith(b"{"):
            raise ValueError("no JSON object")  # json_format takes an empty list, and any text
        try:
            # As in every protobuf: what a later release has added is no error.
            return json_format.Parse(self.raw, message_class(), ignore_unknown_fields=True)
        except (json_format.ParseError, RecursionError) as error:
            raise ValueError("no JSON of this message") from error


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it goes: the message's bytes."""

    raw: bytes
    message_class: type[Message]


class BinaryCodec(Codec[Answer, Request]):
    """application/proto, application/grpc-web+proto and so on."""

    def name(self) -> str:
        return "proto"

    def encode(self, message: Answer) -> bytes:
        return message.raw

    def decode(self, data: bytes | bytearray, message_class: type[Any]) -> Request:
        return Request(bytes(data), is_json=False)


class JsonCodec(Codec[Answer, Request]):
    """application/json, application/connect+json and so on: protobuf's JSON mapping."""

    def name(self) -> str:
        return "json"

    def encode(self, message: Answer) -> bytes:
        parsed = message.message_class.FromString(message.raw)
        try:
            return json_format.MessageToJson(parsed, indent=None).encode()
        except (ValueError, json_format.SerializeToJsonError) as error:
            # (A time beyond the year 9999, say. The library would tell the caller its own words.)
            raise ConnectError(Code.INTERNAL, "this has no JSON: ask for binary") from error

    def decode(self, data: bytes | bytearray, message_class: type[Any]) -> Request:
        return Request(bytes(data), is_json=True)
