"""Writes to a store until it is killed: a process for the tests that end it in bad moments.

    python store_process.py STORE [--checkpoint-bytes N] [--steps N] [--size N]

Prints `acknowledged HEAD FLOOR` once a step has come back. A step is one write that appends three
events and renames the session to the last one's number, so that half a write shows; every fifth
raises the floor and lets go of dead events, in two writes more. After so many steps it closes the
store, prints `closed` and ends.
"""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import replace
from pathlib import Path

from bridle_control.store.api import Tx
from bridle_control.store.sqlite import SqliteStore
from tests.support.stores import an_event

#: How many events stay above the floor.
KEPT = 30


def step(tx: Tx, text: str) -> int:
    first = tx.append_events("s1", [an_event(text), an_event(text), an_event(text)])
    session = tx.session("s1")
    assert session is not None
    tx.update_session(replace(session, title=str(first + 2)))
    return first + 2


async def trim(store: SqliteStore, head: int) -> int:
    floor = max(1, head - KEPT)
    await store.write(lambda tx: tx.raise_floor("s1", floor), urgent=True)
    while await store.write(lambda tx: tx.purge_events(1000), urgent=True):
        pass
    return floor


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("store", type=Path)
    parser.add_argument("--checkpoint-bytes", type=int, default=16 << 20)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=300)
    given = parser.parse_args()
    store = await SqliteStore.open(given.store, checkpoint_bytes=given.checkpoint_bytes)
    floor, text = 1, "x" * given.size
    for number in range(given.steps):
        head = await store.write(lambda tx: step(tx, text))
        if number % 5 == 4:
            floor = await trim(store, head)
        print("acknowledged", head, floor, flush=True)
    await store.close()
    print("closed", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
