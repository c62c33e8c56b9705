"""One process for each of an agent's own conversations: two of them lose turns, or the history.

The lock is a file that the shim holds: it lives as long as the agent, over the deaths of hosts, and
another session finds it taken. Used by `LineDriver` only.
"""

from __future__ import annotations

import hashlib
from pathlib import Path


def lock_of(directory: Path, conversation: str) -> tuple[Path, ...]:
    """The file to lock, in a directory that is there then; none for "". Raises OSError."""
    if not conversation:
        return ()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    # What the agent calls it may be no name of a file.
    name = hashlib.sha256(conversation.encode("utf-8", "replace")).hexdigest()[:40]
    return (directory / name,)
