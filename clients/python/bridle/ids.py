"""Ids that a client makes: UUIDs of version 7.

Called wherever a request is made. Does no input or output.
"""

from __future__ import annotations

import os
import time


def uuid7() -> str:
    """A new UUID of version 7 (RFC 9562): 48 bits of Unix milliseconds, 74 bits of chance.

    The server reads the time in it to tell a request that it has forgotten from a new one.
    """
    millis = time.time_ns() // 1_000_000
    value = (millis & 0xFFFF_FFFF_FFFF) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
