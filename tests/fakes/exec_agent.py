"""An agent of the driver `exec`: each turn is a process, which plays its prompt as a bash script.

    exec_agent.py --begin=ID | --go-on=ID [-- SCRIPT]

Without SCRIPT it is read from stdin: then no process has it in its command line.

What the script puts into the file $MEMORY it finds there again in later turns of the conversation.
Like agents do, it takes no id for a new conversation twice, and goes on with none that isn't there.
"""

from __future__ import annotations

import os
import signal
import sys


def main(way: str, _: str = "", script: str | None = None) -> None:
    # Python would note a SIGINT, and forget it with all else when another program takes its place.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    name, _, conversation = way.partition("=")
    memory = f".memory-{conversation}"
    if name == "--begin":
        os.close(os.open(memory, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    elif not os.path.exists(memory):
        sys.exit(f"there is no conversation {conversation}")
    os.environ["MEMORY"] = memory
    os.environ["SCRIPT"] = sys.stdin.read() if script is None else script
    # In its place: the script's parent is who started us.
    os.execvp("bash", ["bash", "-c", 'eval "$SCRIPT"'])


if __name__ == "__main__":
    main(*sys.argv[1:])
