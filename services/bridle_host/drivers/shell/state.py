"""What of a bash outlives it: the directory and the exported variables; and what doesn't, in words.

Pure values and texts, no I/O. Used by the shell driver only.

Kept is what differs from how the session's bash started, so that a resumed run takes over what the
user set and not what another host, another login or an older token had put there.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

from bridle_host.drivers.shell.control import Report

#: What control keeps of a driver at most.
STATE_LIMIT = 256 * 1024
VERSION = 1

#: Bash's own, and the session's, which each run gets anew.
_NOT_KEPT = frozenset({"_", "SHLVL", "PWD", "OLDPWD", "SHELLOPTS", "BASHOPTS"})
_NOT_KEPT_PREFIX = "BRIDLE_"

_NAMES_LISTED = 20
_ALWAYS_LOST = "variables that were not exported, aliases, traps, umask, limits, open descriptors"


@dataclass(frozen=True, slots=True)
class Kept:
    """What a new bash takes over, and what it can't.

    set: exported variables that are new or differ from the start; unset: those that went.
    dropped: names of exported variables that were too large to keep.
    """

    directory: str
    set: Mapping[str, str] = field(default_factory=dict, repr=False)
    unset: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()

    def encode(self) -> bytes:
        """At most STATE_LIMIT bytes: the largest variables go first."""
        state: dict[str, object] = {
            "version": VERSION,
            "directory": self.directory,
            "unset": self.unset[:1000],
            "functions": self.functions[:1000],
            "options": self.options,
        }
        sizes = {name: len(json.dumps({name: value})) for name, value in self.set.items()}
        dropped = list(self.dropped)
        room = STATE_LIMIT - len(json.dumps(state)) - 64 * 1024  # for the names of what is dropped
        total = sum(sizes.values())
        for name in sorted(sizes, key=lambda name: sizes[name], reverse=True):
            if total <= room:
                break
            total -= sizes.pop(name)
            dropped.append(name[:256])
        state["set"] = {name: value for name, value in self.set.items() if name in sizes}
        state["dropped"] = dropped[:200]
        return json.dumps(state).encode("ascii")

    @classmethod
    def decode(cls, state: bytes) -> Kept | None:
        """None when it is nothing that this version wrote."""
        try:
            read = json.loads(state)
            if read["version"] != VERSION:
                return None
            return cls(
                directory=str(read["directory"]),
                set={str(name): str(value) for name, value in read["set"].items()},
                unset=tuple(map(str, read["unset"])),
                functions=tuple(map(str, read["functions"])),
                options=tuple(map(str, read["options"])),
                dropped=tuple(map(str, read["dropped"])),
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None

    def seed(self) -> str:
        """Commands that set the variables in a new bash."""
        lines = [f"\\builtin unset -v {name}" for name in self.unset if _is_name(name)]
        lines += [
            f"\\builtin export {name}={shlex.quote(value)}"
            for name, value in self.set.items()
            if _is_name(name)
        ]
        return "".join(line + "\n" for line in lines)

    def lost(self) -> tuple[str, ...]:
        """What a new bash doesn't have, a line each for people."""
        lines = [_ALWAYS_LOST]
        if self.functions:
            lines.append(f"functions: {_some(self.functions)}")
        if self.options:
            lines.append(f"shell options: {_some(self.options)}")
        if self.dropped:
            lines.append(f"exported variables that are too large: {_some(self.dropped)}")
        return tuple(lines)


class Baseline:
    """How the session's bash was before anybody ran anything in it."""

    def __init__(self, report: Report) -> None:
        self._exported = parse_exported(report.exported)
        self._options = report.options

    def kept(self, report: Report) -> Kept:
        """What of this report is worth keeping."""
        now = parse_exported(report.exported)
        return Kept(
            directory=report.directory,
            set={name: value for name, value in now.items() if self._exported.get(name) != value},
            unset=tuple(name for name in self._exported if name not in now),
            functions=report.functions,
            options=tuple(
                sorted(
                    [f"{option} on" for option in report.options - self._options]
                    + [f"{option} off" for option in self._options - report.options]
                )
            ),
        )


# --- The text of `declare -px` -------------------------------------------------------------------

_ENTRY = re.compile(
    r"""^(?:declare\ -[A-Za-z]+|export)\ ([A-Za-z_][A-Za-z0-9_]*)
        =(?:"((?:[^"\\]|\\.)*)"|\$'((?:[^'\\]|\\.)*)')$""",
    re.DOTALL | re.MULTILINE | re.VERBOSE,
)
_ESCAPE = re.compile(
    rb"\\(?:([0-7]{1,3})|x([0-9A-Fa-f]{1,2})|u([0-9A-Fa-f]{1,4})|U([0-9A-Fa-f]{1,8})|(.))",
    re.DOTALL,
)
_LETTERS = {
    b"a": b"\a",
    b"b": b"\b",
    b"e": b"\x1b",
    b"E": b"\x1b",
    b"f": b"\f",
    b"n": b"\n",
    b"r": b"\r",
    b"t": b"\t",
    b"v": b"\v",
}


def parse_exported(text: str) -> dict[str, str]:
    """Names and values; what a process started now would have in its environment.

    Bytes that are no UTF-8 are kept as surrogates, as everywhere in Python's file system calls.
    """
    found = {}
    for entry in _ENTRY.finditer(text):
        name, quoted, escaped = entry.groups()
        if name in _NOT_KEPT or name.startswith(_NOT_KEPT_PREFIX):
            continue
        if quoted is not None:
            found[name] = re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL)
        else:
            raw = escaped.encode("utf-8", "surrogateescape")
            found[name] = _ESCAPE.sub(_unescape, raw).decode("utf-8", "surrogateescape")
    return found


def _unescape(match: re.Match[bytes]) -> bytes:
    octal, hexadecimal, short, long, letter = match.groups()
    if octal is not None:
        return bytes([int(octal, 8) & 0xFF])
    if hexadecimal is not None:
        return bytes([int(hexadecimal, 16)])
    if (code := short or long) is not None:
        return chr(int(code, 16)).encode("utf-8", "surrogatepass")
    return _LETTERS.get(letter, letter)


def _is_name(text: str) -> bool:
    return re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", text) is not None


def _some(names: tuple[str, ...], listed: int = _NAMES_LISTED) -> str:
    more = f" and {len(names) - listed} more" if len(names) > listed else ""
    return ", ".join(name[:64] for name in names[:listed]) + more
