"""Bytes that may be text, and text that may be too long: cut where it does no harm.

Pure functions. Used where an agent's words become events.
"""

from __future__ import annotations


def incomplete_tail(data: bytes) -> int:
    """How many bytes at the end are the begin of a character whose rest is missing: 0 to 3.

    Bytes that can't become a character whatever follows don't count.
    """
    for length in range(1, min(3, len(data)) + 1):
        byte = data[-length]
        if byte < 0x80:
            return 0
        if byte < 0xC0:
            continue
        return length if _may_follow(data[-length:]) else 0
    return 0


def _may_follow(start: bytes) -> bool:
    """Whether a start byte and what stands behind it can still become a character."""
    first = start[0]
    if 0xC2 <= first <= 0xDF:
        size = 2
    elif 0xE0 <= first <= 0xEF:
        size = 3
    elif 0xF0 <= first <= 0xF4:
        size = 4
    else:
        return False
    if len(start) >= size:
        return False
    if len(start) == 1:
        return True
    # Overlong forms, surrogates, and what is above the last character.
    low = {0xE0: 0xA0, 0xF0: 0x90}.get(first, 0x80)
    high = {0xED: 0x9F, 0xF4: 0x8F}.get(first, 0xBF)
    return low <= start[1] <= high


def clean(text: str) -> str:
    """Text that can be written as UTF-8: a half of a surrogate pair becomes U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def cut(text: str, limit: int) -> tuple[str, int]:
    """The begin of a text, `limit` bytes of UTF-8 at most, and how many bytes were left out."""
    if len(text) * 4 <= limit:
        return text, 0
    data = text.encode()
    if len(data) <= limit:
        return text, 0
    kept = data[: max(limit, 0)]
    kept = kept[: len(kept) - incomplete_tail(kept)]
    return kept.decode(), len(data) - len(kept)
