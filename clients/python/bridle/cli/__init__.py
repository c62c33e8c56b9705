"""The command line. `main` is its entry point; nothing else is meant to be imported from here.

What a command does not need is not imported: gRPC, protobuf, YAML and the commands themselves come
in when they are first used, because a person waits for each of them.
"""

from __future__ import annotations


def main() -> int:
    """Runs the command line of this process and returns its exit code (see base.ExitCode)."""
    # Starting up makes many objects and drops few: collecting garbage would only cost time.
    import gc
    import os

    gc.disable()
    # gRPC reads these when it is loaded: its own lines on stderr tell a person nothing.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    from bridle.cli.base import run_command_line

    code = run_command_line()
    # Nor is there anything to collect at the end, which is near.
    gc.freeze()
    return code
