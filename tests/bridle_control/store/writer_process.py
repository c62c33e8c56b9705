"""Writes to a store until it is killed: the process that the crash tests kill.

Prints `acknowledged N` once the write that made event N the newest has come back. Each write
appends three events and renames the session to their last number, so that half a write shows.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

from bridle_control.store.api import Tx
from bridle_control.store.sqlite import SqliteStore
from tests.support.stores import an_event


def step(tx: Tx) -> int:
    first = tx.append_events("s1", [an_event(), an_event(), an_event()])
    session = tx.session("s1")
    assert session is not None
    tx.update_session(replace(session, title=str(first + 2)))
    return first + 2


async def main(directory: str) -> None:
    store = await SqliteStore.open(Path(directory))
    for _ in range(1000):
        print("acknowledged", await store.write(step), flush=True)


asyncio.run(main(sys.argv[1]))
