"""When a turn of Claude Code begins and when it is over.

Pure. The laws, as the agent keeps them:

- Each message has a uuid. `command_lifecycle` tells of it queued < started < completed | cancelled;
  a message that the agent has had before is completed without a start. That, not `result`, is the
  begin and the end of its turn: an early interrupt has no result, a steered message may have two.
- A steered message is folded into the running turn at the next gap, or, if there is none, begins
  right behind its end. In either case it is part of the turn: that lasts until all of its messages
  are done with. So a steered input is never lost, and never given twice.
- A turn of the agent's own has no message. It begins with `system/init` (or with a word of a
  sub-agent that outlived its turn) and ends with its `result`, or when the agent says that it is
  idle.
- `session_state_changed idle` follows all of these. It ends whatever is still open, in case that a
  line was lost.

Used by the dialect only.
"""

from __future__ import annotations

from bridle_core.observations import Steered, StopReason
from bridle_host.drivers.claude.state import Asked, Ending, Open, State, Steer
from bridle_host.drivers.lines.dialect import Began, Ended, Said

_OVER = ("completed", "cancelled")


class Turns:
    """See the module. Moves `state`."""

    def __init__(self, state: State) -> None:
        self._state = state

    # What is ordered.

    def ask(self, turn: int, uuid: str) -> None:
        """A turn was asked for; nothing for one that is on already."""
        now = self._state.open
        if now is None or now.uuid != uuid:
            self._state.asked = Asked(turn, uuid)

    def steer(self, input_id: str, uuid: str) -> None:
        """An input was given into the open turn; nothing for one that it has already."""
        now = self._state.open
        if now is not None and not any(steer.uuid == uuid for steer in now.steers):
            now.steers = (*now.steers, Steer(input_id, uuid))

    # What the agent says.

    def lifecycle(self, uuid: str, state: str) -> list[Said]:
        """Of a message."""
        asked, now = self._state.asked, self._state.open
        if asked is not None and asked.uuid == uuid and state in ("started", *_OVER):
            said = [*self._close(), *self._begin(Open(f"turn-{asked.turn}", uuid), asked.turn)]
            return said if state == "started" else [*said, *self._done(state)]
        if now is not None and now.uuid == uuid:
            return self._done(state) if state in _OVER else []
        steer = next((one for one in now.steers if one.uuid == uuid), None) if now else None
        return self._steered(steer, state) if steer is not None else []

    def began(self) -> list[Said]:
        """The agent does something: by itself, if no turn is open."""
        if self._state.open is not None:
            return []
        self._state.own += 1
        return self._begin(Open(f"own-{self._state.own}"), None)

    def result(self, ending: Ending) -> list[Said]:
        """The agent sums up what it did, for a message or by itself."""
        now = self._state.open
        if now is None:
            return []
        now.ending = ending
        if not now.uuid:
            now.done = True
        return self._settle()

    def idle(self) -> list[Said]:
        """The agent has nothing to do."""
        now = self._state.open
        if now is None or any(not steer.begun for steer in now.steers):
            return []  # it has not read yet what was steered last
        return self._close()

    # Inside.

    def _begin(self, turn: Open, number: int | None) -> list[Said]:
        self._state.open = turn
        self._state.message, self._state.blocks = "", ()
        if number is not None:
            self._state.asked = None
        return [Began(number)]

    def _done(self, state: str) -> list[Said]:
        now = self._state.open
        assert now is not None
        now.done = True
        if state == "cancelled" and now.ending is None:
            now.ending = Ending(StopReason.INTERRUPTED)
        return self._settle()

    def _steered(self, steer: Steer, state: str) -> list[Said]:
        now = self._state.open
        assert now is not None
        said: list[Said] = []
        if not steer.begun and state in ("started", "completed"):
            steer.begun = True
            said.append(Steered(steer.input_id))
        if state in _OVER:
            now.steers = tuple(one for one in now.steers if one is not steer)
            said += self._settle()
        return said

    def _settle(self) -> list[Said]:
        """End the open turn, if all of its messages are done with and a result was seen."""
        now = self._state.open
        if now is None or not now.done or now.steers or now.ending is None:
            return []
        return self._close()

    def _close(self) -> list[Said]:
        now = self._state.open
        if now is None:
            return []
        self._state.open = None
        self._state.questions = ()
        ending = now.ending or Ending(StopReason.COMPLETED)
        return [Ended(ending.reason, ending.message)]
