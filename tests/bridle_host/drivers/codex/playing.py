"""Plays what was recorded between the dialect and the real program, line by line.

A recording has a line of the dialect's behind each `>` and a line of the program's behind each `<`.
What the program said is read to a dialect; what the dialect ordered then has to be what it ordered
when it was recorded, word for word.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bridle_core.observations import ApprovalAsked, Decision, Text
from bridle_core.version import VERSION
from bridle_host.drivers.codex import launch
from bridle_host.drivers.codex.dialect import CodexDialect
from bridle_host.drivers.lines.dialect import Beginning, Order, Said

RECORDED = Path(__file__).parent / "recorded"
PROJECT = "/home/user/project"

OPEN = "-a never -s danger-full-access"


def beginning(
    run: int = 1, kept: bytes = b"", *, native: bool = False, serial: int = 1
) -> Beginning:
    environment = {"BRIDLE_ARTIFACTS": "/home/user/artifacts"}
    return Beginning("session", run, serial, PROJECT, environment, native=native, kept=kept)


def dialect(
    command: str = "", begins: Beginning | None = None, standing: bytes | None = None
) -> CodexDialect:
    return CodexDialect(launch.parse(command), begins or beginning(), standing)


@dataclass
class Player:
    """succeeding: after each line another dialect goes on from the last one's standing."""

    name: str
    command: str = ""
    begins: Beginning = field(default_factory=beginning)
    succeeding: bool = False
    said: list[Said] = field(default_factory=list)
    decisions: list[tuple[Decision, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._speaker = dialect(self.command, self.begins)
        self._ordered: list[dict[str, Any]] = []
        self._written: set[str] = set()
        self._answered = 0

    def play(self) -> list[Said]:
        """What the program's lines meant, without the orders. Fails where these are others."""
        self._give(self._speaker.greet())
        recorded = (RECORDED / f"{self.name}.txt").read_text().replace("VERSION", VERSION)
        for entry in recorded.splitlines():
            mark, line = entry[0], entry[2:]
            if mark == "<":
                self._hear(line.encode())
            else:
                order = json.loads(line)
                if not self._ordered:
                    self._give(self._verb(order))
                assert self._ordered.pop(0) == order
            if self.succeeding:
                standing = self._speaker.standing()
                self._speaker = dialect(self.command, self.begins, standing)
        assert not self._ordered
        return self.said

    def _hear(self, line: bytes) -> None:
        for one in self._speaker.read(line):
            if isinstance(one, Order):
                self._give((one,))
            else:
                self.said.append(one)

    def _give(self, orders: Iterable[Order]) -> None:
        for order in orders:
            if order.key not in self._written:
                self._written.add(order.key)
                self._ordered.append(json.loads(order.data))

    def _verb(self, order: dict[str, Any]) -> Iterable[Order]:
        """What was asked of the dialect when it gave that order."""
        if "result" in order:
            asked = [one for one in self.said if isinstance(one, ApprovalAsked)][self._answered]
            decision, message = self.decisions[self._answered]
            self._answered += 1
            return self._speaker.respond("turn-1", asked.approval_id, decision, message)
        what, _, which = order["id"].partition("-")
        content = [Text(piece["text"]) for piece in order["params"].get("input", ())]
        if what == "turn":
            return self._speaker.begin(int(which), content)
        if what == "steer":
            return self._speaker.steer("turn-1", which, content)
        assert what == "interrupt"
        return self._speaker.interrupt(which, include_background=which == "turn-3")
