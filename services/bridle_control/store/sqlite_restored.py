"""Finds out that a store was set back to an older state of itself.

Then sequences are given out a second time, and a cursor that a watcher kept may be beyond what the
log has, or before other events than it has seen. So the log gets a new id, by which such cursors
are refused (CURSOR_FOREIGN) instead of being taken for good.

Each opening leaves a random mark in the database, and the same in a file beside it. A copy that is
put back has another mark than the file, or, when both were put back, lies at another place on the
disk. What this can't see is a copy of both, written over the old files: `--restored` says so. To
take a store for restored that was not costs its watchers a replay, and nothing else.

Called when a store is opened; may not change anything but the mark and the log's id.
"""

from __future__ import annotations

import logging
import os
import secrets
import sqlite3
from pathlib import Path

_log = logging.getLogger("bridle.control.store")

#: The file beside the database, with the mark of the last opening. While an opening is under way it
#: holds the former mark too: a death in between leaves either in the database.
OPENING = "opening"


def note_opening(connection: sqlite3.Connection, database: Path, *, restored: bool) -> None:
    """Marks this opening, and gives the log a new id where the store was set back.

    `restored`: somebody says that it was. On a disk that is full or fails nothing is marked, and
    the next opening finds the old mark. Raises sqlite3.Error, OSError where it can't be read.
    """
    place = str(database.stat().st_ino)
    kept = dict(connection.execute("SELECT key, value FROM meta WHERE key IN ('opening', 'place')"))
    beside = _marks(database.with_name(OPENING))
    if kept and (kept["opening"] not in beside or kept["place"] != place):
        restored = True
    new = secrets.token_hex(16)
    values = [("opening", new), ("place", place)]
    if restored:
        values.append(("log_id", secrets.token_hex(16)))
    try:
        _write(database.with_name(OPENING), [new, kept.get("opening", new)])
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("REPLACE INTO meta VALUES (?, ?)", values)
        connection.execute("COMMIT")
        _write(database.with_name(OPENING), [new])
    except (OSError, sqlite3.OperationalError) as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        if restored:
            raise
        _log.warning("this opening of the store could not be marked: %s", error)
        return
    if restored:
        _log.warning("the store was set back: cursors from before are refused from now on")


def _marks(path: Path) -> list[str]:
    try:
        return path.read_text("ascii", "replace").split()
    except FileNotFoundError:
        return []


def _write(path: Path, marks: list[str]) -> None:
    draft = path.with_name(f"{path.name}.new")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(handle, "w", encoding="ascii") as file:
        file.write("\n".join(marks) + "\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
