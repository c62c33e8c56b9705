"""Writes to a host's journal until it is killed: a process for the tests of crash points.

    python journal_process.py DIRECTORY

Three lanes append an event with the answer to a command, put a run and drop the one before; now and
then all but the newest is acknowledged. Prints `durable SEQUENCE NAME ACKNOWLEDGED` for each append
that came back.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from bridle.host.v1 import host_link_service_pb2 as host_pb
from bridle_host import journal_file
from bridle_host.journal import Entry, Journal


async def write(journal: Journal, lane: str) -> None:
    for number in range(100_000):
        name = f"{lane}-{number}"
        command = host_pb.CommandEntry(command_id=name)
        event = Entry(lane, 1, event=(37, name.encode() + b"x" * 1000))
        last = await journal.append([event, Entry(lane, 1, command=command)])
        await journal.put_run(lane, number, b"")
        if number:
            await journal.drop_run(lane, number - 1)
        if number % 10 == 9:
            journal.acknowledge(max(0, last - 12))
        print("durable", last, name, journal.acknowledged, flush=True)


async def main() -> None:
    journal_file.CHECKPOINT_BYTES = 50_000
    journal = Journal.open(Path(sys.argv[1]) / "journal", on_fatal=print, reserve_bytes=4096)
    async with asyncio.TaskGroup() as group:
        for lane in "abc":
            group.create_task(write(journal, lane))


if __name__ == "__main__":
    asyncio.run(main())
