"""Values as JSON, and back: dataclasses of words, numbers, tuples and other such dataclasses.

For what is kept from one process of the host to the next, which may be another version of Bridle:
a field that is missing gets its default, and one that is not known is left out. Pure.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from enum import Enum
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")


def dump(value: Any) -> str:
    """A dataclass as JSON text; fields that hold their default are left out."""
    return json.dumps(_plain(value), separators=(",", ":"))


def load(kind: type[T], text: str | bytes) -> T:
    """Of `dump`. Raises ValueError when it isn't such a value."""
    try:
        built: T = _build(kind, json.loads(text))
    except (KeyError, TypeError, RecursionError, binascii.Error) as error:
        raise ValueError(f"not the text of a {kind.__name__}") from error
    return built


#: What json takes as it is; words (StrEnum) are texts to it.
_AS_IT_IS = (str, int, float, types.NoneType)


def _plain(value: Any) -> Any:
    if isinstance(value, _AS_IT_IS):
        return value
    if isinstance(value, tuple):
        return [one if isinstance(one, _AS_IT_IS) else _plain(one) for one in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, frozenset):
        return sorted(map(_plain, value))
    told = {}
    kind: Any = type(value)
    for name, default in _defaults(kind):
        held = getattr(value, name)
        if held is not default and held != default:
            told[name] = _plain(held)
    return told


@cache
def _defaults(kind: type) -> tuple[tuple[str, Any], ...]:
    """The fields of a dataclass, and what each holds where nothing is said. Called for each kind
    once: a run is written down again with all that its agent puts out.
    """
    return tuple((field.name, _default(field)) for field in dataclasses.fields(kind))


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


@cache
def _hints(kind: type) -> Mapping[str, Any]:
    return typing.get_type_hints(kind)


def _build(kind: Any, raw: Any) -> Any:
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType or origin is typing.Union:
        if raw is None and type(None) in parts:
            return None
        return _build(next(part for part in parts if part is not type(None)), raw)
    if origin is tuple and isinstance(raw, list):
        if len(parts) == 2 and parts[1] is Ellipsis:
            return tuple(_build(parts[0], one) for one in raw)
        return tuple(_build(part, one) for part, one in zip(parts, raw, strict=True))
    if origin is frozenset and isinstance(raw, list):
        return frozenset(_build(parts[0], one) for one in raw)
    if dataclasses.is_dataclass(kind):
        return _build_fields(kind, raw)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(raw)
    if kind is bytes and isinstance(raw, str):
        return base64.b64decode(raw, validate=True)
    if kind is float and isinstance(raw, int | float) and not isinstance(raw, bool):
        return float(raw)
    if kind in (int, str, bool) and type(raw) is kind:
        return raw
    raise TypeError(f"{raw!r:.80} is no {kind}")


def _build_fields(kind: Any, raw: Any) -> Any:
    names = [field.name for field in dataclasses.fields(kind) if field.init]
    if isinstance(raw, list):
        # What was a pair once and has more to say now.
        raw = dict(zip(names, raw, strict=False))
    if not isinstance(raw, dict):
        raise TypeError(f"{raw!r:.80} holds no fields")
    hints = _hints(kind)
    return kind(**{name: _build(hints[name], raw[name]) for name in names if name in raw})
