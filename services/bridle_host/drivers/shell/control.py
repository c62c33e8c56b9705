"""What the shell driver and its bash say to each other: lines down stdin, frames up a pipe.

Text in, text out: no process, no I/O but the three files that `Files` writes. Used by the shell
driver only.

bash reads its lines from stdin. It keeps three descriptors high up, out of the way of scripts:
CONTROL for frames, OUT and ERR for what commands print. Its own descriptors 1 and 2 are /dev/null,
so that its prompts, its "exit", its newline at a SIGINT and its traces of our lines reach nobody.
A turn is two lines:

    . run
    . after $? TOKEN >&CONTROL

The first tells `began` and runs the script in the shell itself, so that what it sets stays. It is
one line, since a SIGINT throws bash out of a line and never out of more: from `began` on, an
interrupt hits the script. The second is a line of its own for the same reason: it reports how the
script ended even when a SIGINT threw bash out of it.

SIGRTMAX-1 is how an interrupt reaches a bash that waits for a command: its trap is run as soon as
the command is gone, before the next one, and throws bash out of the line. A SIGINT alone would not
do: bash goes on if the command ended in any other way than by that SIGINT.

A frame is ``\\0NONCE\\0field\\0…field\\0NONCE.\\0``. The nonce changes with each bash, and commands
don't hold the pipe; so what a command prints is never taken for a frame. A frame that a signal cut
short is followed by a whole one, and skipped.
"""

from __future__ import annotations

import os
import shlex
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

#: Below 64, so that a script may lower its limit of open files that far.
CONTROL, OUT, ERR = 61, 62, 63

#: A frame holds all exported variables. More than Linux lets a process start with is no frame.
FRAME_LIMIT = 8 * 1024 * 1024

# A trap that is run while bash reads a line must not throw it out of there: bash 5.2 dies of that.
# While it runs a line, BASH_SOURCE is not empty. `&& :` sets `$?` as it was at the end of the last
# turn, without setting off `set -e` or an ERR trap.
_RUN = r"""\builtin trap 'case ${{BASH_SOURCE-}} in ?*) \builtin kill -INT $$ ;; esac' RTMAX-1
\builtin printf '\0%s\0began\0%s\0%s.\0' {nonce} {token} {nonce} >&{control}
\builtin . {status_file} {status} && \builtin :
\builtin . {script_file} </dev/null >&{out} 2>&{err} {control}>&- {out}>&- {err}>&-
"""

_STATUS = r"""\builtin return "$1"
"""

_AFTER = r"""\builtin printf '\0%s\0report\0%s\0%s\0' {nonce} "$2" "$1"
\builtin pwd
\builtin printf '\0'
\builtin declare -px
\builtin printf '\0'
\builtin declare -F
\builtin printf '\0%s:%s\0%s\0%s.\0' "${{SHELLOPTS-}}" "${{BASHOPTS-}}" "${{BASH_VERSION-}}" {nonce}
"""

# No history: an interactive bash would write it into the user's own file when it ends. TMOUT would
# end an idle bash, PROMPT_COMMAND would run between the turns.
_FIRST_LINE = (
    f"exec {CONTROL}>&3 {OUT}>&1 {ERR}>&2 >/dev/null 2>&1 3>&-; "
    "set +o history +o histexpand; history -c; unset HISTFILE TMOUT PROMPT_COMMAND PS0 MAILCHECK\n"
)


@dataclass(frozen=True, slots=True)
class Began:
    """The script of this token is being run from now on."""

    token: str


@dataclass(frozen=True, slots=True)
class Report:
    """How things stand after a line.

    exported: the text of `declare -px`; functions: names; options: those that are on.
    """

    token: str
    status: int
    directory: str
    exported: str
    functions: tuple[str, ...]
    options: frozenset[str]
    version: str


class Files:
    """The files that bash sources, in the session's state directory, and the lines that do it."""

    def __init__(self, directory: Path, nonce: str) -> None:
        self._directory = directory
        self._nonce = nonce

    def write(self) -> None:
        """Write what stays the same. Raises OSError."""
        self._write("after", _AFTER.format(nonce=self._nonce))
        self._write("status", _STATUS)

    def write_turn(self, token: str, script: str, status: int) -> None:
        """A script, and what runs it. status: `$?` for it to find. Raises OSError."""
        run = _RUN.format(
            nonce=self._nonce,
            token=token,
            status=status,
            status_file=self._path("status"),
            script_file=self._path("script"),
            control=CONTROL,
            out=OUT,
            err=ERR,
        )
        self._write("run", run)
        self._write("script", script)

    def write_seed(self, commands: str) -> None:
        """Raises OSError."""
        self._write("seed", commands)

    def discard(self) -> None:
        """Remove what one turn or one start needed."""
        for name in ("run", "script", "seed"):
            with suppress(OSError):
                os.unlink(self._directory / name)

    def first_lines(self, token: str) -> bytes:
        """What a new bash gets first; it answers with a report."""
        return os.fsencode(_FIRST_LINE) + self.report_line(token)

    def seed_lines(self, token: str) -> bytes:
        """Take over what was kept; answered with a report."""
        seed = f"\\builtin . {self._path('seed')} </dev/null"
        return self._line(seed) + self.report_line(token)

    def turn_lines(self, token: str) -> bytes:
        """Run what `write_turn` wrote; answered with `Began`, then a report."""
        return self._line(f"\\builtin . {self._path('run')}") + self.report_line(token)

    def report_line(self, token: str) -> bytes:
        """Ask for a report."""
        after = f'\\builtin . {self._path("after")} "$?" {token}'
        return self._line(f"{after} </dev/null >&{CONTROL} 2>/dev/null")

    def _path(self, name: str) -> str:
        return shlex.quote(str(self._directory / name))

    @staticmethod
    def _line(text: str) -> bytes:
        return os.fsencode(text + "\n")

    def _write(self, name: str, text: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        with open(os.open(self._directory / name, flags, 0o600), "wb") as file:
            file.write(text.encode("utf-8", "surrogateescape"))


class Frames:
    """Finds the frames in what comes up the control pipe."""

    def __init__(self, nonce: str) -> None:
        self._start = f"\0{nonce}\0".encode()
        self._end = f"\0{nonce}.\0".encode()
        self._buffer = bytearray()

    @property
    def begun(self) -> bytearray:
        """What may be the beginning of a frame; not to be changed."""
        return self._buffer

    def feed(self, data: bytes) -> list[Began | Report]:
        """Bytes cut anywhere; the frames that are whole by now. Unreadable ones are left out."""
        # The end may have come in two pieces.
        seen = max(0, len(self._buffer) - len(self._end))
        self._buffer += data
        found: list[Began | Report] = []
        while (end := self._buffer.find(self._end, seen)) >= 0:
            start = self._buffer.rfind(self._start, 0, end)
            if start >= 0:
                fields = bytes(self._buffer[start + len(self._start) : end]).split(b"\0")
                frame = _frame([field.decode("utf-8", "surrogateescape") for field in fields])
                if frame is not None:
                    found.append(frame)
            del self._buffer[: end + len(self._end)]
            seen = 0
        if len(self._buffer) > FRAME_LIMIT:
            self._buffer.clear()
        return found


def _frame(fields: list[str]) -> Began | Report | None:
    if len(fields) == 2 and fields[0] == "began":
        return Began(fields[1])
    if len(fields) != 8 or fields[0] != "report" or not fields[2].isdecimal():
        return None
    _, token, status, directory, exported, functions, options, version = fields
    return Report(
        token=token,
        status=int(status),
        directory=directory.removesuffix("\n"),
        exported=exported,
        functions=tuple(line.rpartition(" ")[2] for line in functions.splitlines()),
        options=frozenset(options.split(":")) - {""},
        version=version,
    )
