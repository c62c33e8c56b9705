"""How much of the logs is kept: the words of `--retain-per-session` and `--retain-total`.

    --retain-per-session 100000ev,1GiB,30d     of each session, whichever is met first
    --retain-total 50GiB                       of all sessions together, the oldest events go first

Limits are separated by commas, one of a kind at most: a number of events (`ev`), of bytes (B, kB,
MB, GB, TB by thousands, KiB, MiB, GiB, TiB), an age (`s`, `min`, `h`, `d`, `w`). Without a flag
everything is kept. Called by the settings; `retention` does it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_AGES = {"s": 1, "min": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_SIZES = {
    "B": 1,
    **{f"{letter}B": 1000**power for power, letter in enumerate("kMGT", 1)},
    **{f"{letter}iB": 1024**power for power, letter in enumerate("KMGT", 1)},
}
_LIMIT = re.compile(r"([0-9]{1,18})([A-Za-z]+)", re.ASCII)
#: Longer ages are kept for ever, in effect; the arithmetic of nanoseconds stays within 64 bits.
_LONGEST = 200 * 365 * 86_400


@dataclass(frozen=True, slots=True)
class Limits:
    """What is kept at the most; 0 sets no limit. `age` is in seconds, by the time of commit."""

    events: int = 0
    bytes: int = 0
    age: int = 0

    def __bool__(self) -> bool:
        return bool(self.events or self.bytes or self.age)

    @classmethod
    def parse(cls, text: str) -> Limits:
        """From "100000ev,1GiB,30d". Raises ValueError with a line that says what is wrong."""
        found: dict[str, int] = {}
        for part in text.split(","):
            name, value = _parse(part.strip())
            if name in found:
                raise ValueError(f"{part.strip()!r}: there are two limits of that kind")
            found[name] = value
        return cls(**found)


#: The default.
EVERYTHING = Limits()


def _parse(part: str) -> tuple[str, int]:
    match = _LIMIT.fullmatch(part)
    number, unit = (int(match[1]), match[2]) if match else (0, "")
    if unit == "ev":
        name, value = "events", number
    elif unit in _SIZES:
        name, value = "bytes", number * _SIZES[unit]
    elif unit in _AGES:
        name, value = "age", number * _AGES[unit]
    else:
        raise ValueError(f"{part!r} is no limit: write 100000ev, 1GiB or 30d, joined by commas")
    if not 0 < value < 2**62 or (name == "age" and value > _LONGEST):
        raise ValueError(f"{part!r} is out of range")
    return name, value
