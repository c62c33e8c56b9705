"""Ids that control makes, and what a request id tells.

UUIDs of version 7: they begin with their time in milliseconds, so they sort by birth and index
well, and one that a caller made tells how old its request is. Called by the verbs and by the
identity and host services.
"""

from __future__ import annotations

import secrets
import time
import uuid


def uuid7(now_ns: int | None = None) -> str:
    """A new UUID of version 7; `now_ns` in nanoseconds since the Unix epoch, by default now."""
    milliseconds = (time.time_ns() if now_ns is None else now_ns) // 1_000_000
    chance = secrets.randbits(74)
    value = (milliseconds & (1 << 48) - 1) << 80
    value |= 0x7 << 76 | (chance >> 62) << 64
    value |= 0b10 << 62 | chance & (1 << 62) - 1
    return str(uuid.UUID(int=value))


def uuid7_time(value: uuid.UUID) -> int | None:
    """The time in a UUID of version 7, in nanoseconds since the Unix epoch; None for others."""
    if value.variant != uuid.RFC_4122 or value.version != 7:
        return None
    return (value.int >> 80) * 1_000_000
