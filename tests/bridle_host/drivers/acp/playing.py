"""Plays what was recorded between the dialect and real agents, line by line.

A recording has a line of the dialect's behind each `>` and a line of the agent's behind each `<`.
What the agent said is read to a dialect; what the dialect ordered then has to be what it ordered
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
from bridle_host.drivers.acp.dialect import AcpDialect
from bridle_host.drivers.lines.dialect import Began, Beginning, Order, Said

RECORDED = Path(__file__).parent / "recorded"
PROJECT = "/home/user/project"


def beginning(
    run: int = 1, kept: bytes = b"", *, native: bool = False, serial: int = 1
) -> Beginning:
    return Beginning("session", run, serial, PROJECT, {}, native=native, kept=kept)


def dialect(begins: Beginning | None = None, standing: bytes | None = None) -> AcpDialect:
    return AcpDialect(("agent",), begins or beginning(), standing)


@dataclass
class Player:
    """succeeding: after each line another dialect goes on from the last one's standing."""

    name: str
    begins: Beginning = field(default_factory=beginning)
    succeeding: bool = False
    said: list[Said] = field(default_factory=list)
    decisions: list[tuple[Decision, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.speaker = dialect(self.begins)
        self._ordered: list[dict[str, Any]] = []
        self._written: set[str] = set()
        self._answered = 0
        self._turn = 0
        self.largest = 0

    def play(self) -> list[Said]:
        """What the agent's lines meant, without the orders. Fails where these are others."""
        self._give(self.speaker.greet())
        recorded = (RECORDED / f"{self.name}.txt").read_text().replace('"VERSION"', f'"{VERSION}"')
        for entry in recorded.splitlines():
            mark, line = entry[0], entry[2:]
            if mark == "<":
                self._hear(line.encode())
            else:
                order = json.loads(line)
                if not self._ordered:
                    self._give(self._verb(order))
                assert self._ordered.pop(0) == order
            standing = self.speaker.standing()
            self.largest = max(self.largest, len(standing))
            if self.succeeding:
                self.speaker = dialect(self.begins, standing)
        assert not self._ordered
        return self.said

    def _hear(self, line: bytes) -> None:
        for one in self.speaker.read(line):
            if isinstance(one, Order):
                self._give((one,))
            else:
                self.said.append(one)
            if isinstance(one, Began) and one.turn is not None:
                self._turn = one.turn

    def _give(self, orders: Iterable[Order]) -> None:
        for order in orders:
            if order.key not in self._written:
                self._written.add(order.key)
                self._ordered += map(json.loads, order.data.splitlines())

    def _verb(self, order: dict[str, Any]) -> Iterable[Order]:
        """What was asked of the dialect when it gave that order."""
        turn = f"turn-{self._turn}"
        if "result" in order:
            asked = [one for one in self.said if isinstance(one, ApprovalAsked)][self._answered]
            decision, message = self.decisions[self._answered]
            self._answered += 1
            return self.speaker.respond(turn, asked.approval_id, decision, message)
        if order["method"] == "session/cancel":
            return self.speaker.interrupt(turn, include_background=False)
        content = [Text(piece["text"]) for piece in order["params"]["prompt"]]
        what, _, which = order["id"].partition("-")
        if what == "steer":
            return self.speaker.steer(turn, which, content)
        assert what == "turn"
        return self.speaker.begin(int(which), content)
