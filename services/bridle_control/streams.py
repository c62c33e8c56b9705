"""The calls that are open, and how they end before their time.

A Watch, a host's link or a long GetCommand is opened under a token and ends within 5 s of that
token's end; all of them end when the service shuts down, and then, after a grace, the other calls.
The interceptor registers each call for as long as its handler runs; `run` looks every two seconds
whether the tokens are still good, and at once when a commit touched one of them. What is looked at
is the store, so a revocation by another process counts as well.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from bridle_control.auth import still_good
from bridle_control.caller import Caller
from bridle_control.store.api import Changes, ReadTx, Store
from bridle_core.errors import BridleError

_log = logging.getLogger("bridle.control.streams")

#: How often open calls are looked at, in seconds. With the 2 s of the authenticator's memory a
#: revocation bites within the promised 5 s.
PERIOD = 2.0


class OpenCall:
    """A call that is open. Ended by cancelling the task that handles it, with the error to tell."""

    __slots__ = ("caller", "ended", "long", "task")

    def __init__(self, caller: Caller, task: asyncio.Task[object], *, long: bool) -> None:
        self.caller = caller
        self.task = task
        self.long = long
        self.ended: BridleError | None = None

    def end(self, error: BridleError) -> None:
        """Ends the call with this error; the first error counts."""
        if self.ended is None:
            self.ended = error
            self.task.cancel()


class OpenCalls:
    """All of them. Used from the event loop alone."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._open: set[OpenCall] = set()
        self._of_token: Counter[str] = Counter()  # of long calls only, as the next
        self._of_session: Counter[str] = Counter()  # by sessions' own tokens
        self._wake = asyncio.Event()
        self._over = asyncio.Event()
        self._closed: BridleError | None = None
        store.listen(self._changed)

    def __len__(self) -> int:
        return len(self._open)

    @contextmanager
    def track(self, caller: Caller, *, long: bool) -> Iterator[OpenCall]:
        """Registers the call of the current task. `long`: it ends with its token.

        Raises SHUTTING_DOWN for a long one when all of them were ended.
        """
        if long and self._closed is not None:
            raise self._closed
        task = asyncio.current_task()
        assert task is not None
        call = OpenCall(caller, task, long=long)
        self._open.add(call)
        if long:
            self._of_token[caller.token_id] += 1
            self._of_session[caller.session_id] += 1
        try:
            yield call
        finally:
            self._open.discard(call)
            self._over.set()
            if long:
                _count_down(self._of_token, caller.token_id)
                _count_down(self._of_session, caller.session_id)

    def _changed(self, changes: Changes) -> None:
        touched = changes.sessions | changes.deleted
        if self._of_token.keys() & changes.tokens or self._of_session.keys() & touched:
            self._wake.set()

    async def end_all(self, error: BridleError, grace: float) -> None:
        """Ends all long calls, refuses those that come later, and ends the others after `grace` s.

        A short call is at most waiting for a host: what it asked for is committed, and the same
        request sent again finds it.
        """
        self._closed = error
        for call in list(self._open):
            if call.long:
                call.end(error)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._all_over(), grace)
        for call in list(self._open):
            call.end(error)

    async def _all_over(self) -> None:
        while self._open:
            self._over.clear()
            await self._over.wait()

    async def run(self) -> None:
        """Ends calls whose tokens have ended, until cancelled."""
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), PERIOD)
            self._wake.clear()
            await self.look()

    async def look(self) -> None:
        """Looks at the tokens of all open calls once."""
        tokens = set(self._of_token)
        if not tokens:
            return
        try:
            dead = await self._store.read(lambda tx: _dead(tx, tokens))
        except BridleError as error:
            # The store tells everybody who uses it; a look that failed is made again in 2 s.
            _log.warning("open calls could not be looked at: %s", error.reason)
            return
        for call in list(self._open):
            if call.long and (wrong := dead.get(call.caller.token_id)) is not None:
                call.end(wrong)


def _count_down(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]


def _dead(tx: ReadTx, tokens: Iterable[str]) -> dict[str, BridleError]:
    found = {token: still_good(tx, token) for token in tokens}
    return {token: error for token, error in found.items() if error is not None}
