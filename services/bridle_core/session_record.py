"""What is remembered of a live run, so that it can be ended properly by another process.

A value and its text form. Made by `Session.record`, kept by the host's journal, taken by
`Session.restore`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Self

from bridle_core.phases import Phase


@dataclass(frozen=True, slots=True)
class RunRecord:
    """See `Session.record`. Pairs are (input id, command id)."""

    phase: Phase
    #: SessionStarted or SessionResumed was written.
    opened: bool
    #: Of the agent's process; 0 while there is none.
    pid: int
    last_turn: int
    #: The turn that is open; 0 for none.
    turn: int
    tools: tuple[str, ...]
    approvals: tuple[str, ...]
    handed: tuple[tuple[str, str], ...]
    steering: tuple[tuple[str, str], ...]
    #: Commands that wait for the end of the turn.
    interrupts: tuple[str, ...]
    #: (input id, commands that wait until it is known what became of it).
    cancels: tuple[tuple[str, tuple[str, ...]], ...]
    #: Stops and kills that wait for the end of the run.
    enders: tuple[str, ...]
    killed: bool

    def dump(self) -> str:
        """As JSON text."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def load(cls, text: str) -> Self:
        """From JSON text. Raises ValueError when it isn't a record."""
        try:
            raw = json.loads(text)
            return cls(
                phase=Phase(raw["phase"]),
                opened=bool(raw["opened"]),
                pid=int(raw["pid"]),
                last_turn=int(raw["last_turn"]),
                turn=int(raw["turn"]),
                tools=tuple(raw["tools"]),
                approvals=tuple(raw["approvals"]),
                handed=tuple((i, c) for i, c in raw["handed"]),
                steering=tuple((i, c) for i, c in raw["steering"]),
                interrupts=tuple(raw["interrupts"]),
                cancels=tuple((i, tuple(c)) for i, c in raw["cancels"]),
                enders=tuple(raw["enders"]),
                killed=bool(raw["killed"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError("not the record of a run") from error
