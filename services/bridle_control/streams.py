"""The calls that stay open, and how they end before their time.

A Watch, a host's link or a long GetCommand is opened under a token and ends within 5 s of that
token's end, and all of them end when the service shuts down. The interceptor registers each such
call for as long as its handler runs; `run` looks every two seconds whether the tokens are still
good, and at once when a commit touched one of them. What is looked at is the store, so a revocation
by another process counts as well.
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
from bridle_core.errors import BridleError, Reason

_log = logging.getLogger("bridle.control.streams")

#: How often open calls are looked at, in seconds. With the 2 s of the authenticator's memory a
#: revocation bites within the promised 5 s.
PERIOD = 2.0


class OpenCall:
    """A call that is open. Ended by cancelling the task that handles it, with the error to tell."""

    __slots__ = ("caller", "ended", "task")

    def __init__(self, caller: Caller, task: asyncio.Task[object]) -> None:
        self.caller = caller
        self.task = task
        self.ended: BridleError | None = None

    def end(self, error: BridleError) -> None:
        """Ends the call with this error; the first error counts."""
        if self.ended is None:
            self.ended = error
            self.task.cancel()


class OpenCalls:
    """All of them. Used from the event loop alone."""

    def __init__(self, store: Store, *, limit_per_token: int) -> None:
        self._store = store
        self._limit = limit_per_token
        self._open: set[OpenCall] = set()
        self._of_token: Counter[str] = Counter()
        self._of_session: Counter[str] = Counter()  # of calls by sessions' own tokens
        self._wake = asyncio.Event()
        self._closed: BridleError | None = None
        store.listen(self._changed)

    def __len__(self) -> int:
        return len(self._open)

    @contextmanager
    def track(self, caller: Caller) -> Iterator[OpenCall]:
        """Registers the call of the current task. Raises TOO_MANY_WATCHES, SHUTTING_DOWN."""
        if self._closed is not None:
            raise self._closed
        if self._of_token[caller.token_id] >= self._limit:
            raise BridleError(
                Reason.TOO_MANY_WATCHES,
                f"this token has {self._limit} open streams; end some",
                metadata={"limit": str(self._limit)},
            )
        task = asyncio.current_task()
        assert task is not None
        call = OpenCall(caller, task)
        counters = ((self._of_token, caller.token_id), (self._of_session, caller.session_id))
        self._open.add(call)
        for counter, key in counters:
            counter[key] += 1
        try:
            yield call
        finally:
            self._open.discard(call)
            for counter, key in counters:
                counter[key] -= 1
                if not counter[key]:
                    del counter[key]

    def _changed(self, changes: Changes) -> None:
        touched = changes.sessions | changes.deleted
        if self._of_token.keys() & changes.tokens or self._of_session.keys() & touched:
            self._wake.set()

    def end_all(self, error: BridleError) -> None:
        """Ends every call, and each that comes later."""
        self._closed = error
        for call in list(self._open):
            call.end(error)

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
            if (wrong := dead.get(call.caller.token_id)) is not None:
                call.end(wrong)


def _dead(tx: ReadTx, tokens: Iterable[str]) -> dict[str, BridleError]:
    found = {token: still_good(tx, token) for token in tokens}
    return {token: error for token, error in found.items() if error is not None}
