"""The command line. `main` is its entry point; nothing else is meant to be imported from here.

What a command does not need is not imported: gRPC, protobuf, YAML and the commands themselves come
in when they are first used, because a person waits for each of them.
"""

from __future__ import annotations


def main() -> int:
    """Runs the command line of this process and returns its exit code (see base.ExitCode)."""
    # Starting up makes many objects and drops few: collecting garbage would only cost time.
    import gc

    gc.disable()
    from bridle.cli.base import run_command_line

    return run_command_line()
