"""Runs a program that is told to end (SIGTERM) as soon as its parent process is gone.

Run as a script, `python -I -S leash.py PARENT PROGRAM ARGUMENT…`, and replaced by the program. So
nothing stays behind when `bridle up` itself is killed.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, program, *arguments = sys.argv[1:]
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):
        sys.exit(1)  # the parent has died in the meantime
    os.execv(program, [program, *arguments])


if __name__ == "__main__":
    main()
