"""The synchronous client: the same methods as `Client`, without `await`.

    with bridle.SyncClient() as client:
        client.send("fix-auth", "go on")
        for event in client.watch("fix-auth"):
            ...

Runs a `Client` on an event loop of its own, in a thread of its own. May be used from several
threads at once; a watch by one at a time.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar

from bridle.client import Client
from bridle.v1 import event_pb2
from bridle.watching import Target, Update, Watch

#: Seconds that calls get to end when the client is closed.
SETTLE = 1.0

P = ParamSpec("P")
T = TypeVar("T")


def _call(
    method: Callable[Concatenate[Client, P], Awaitable[T]],
) -> Callable[Concatenate[SyncClient, P], T]:
    """The synchronous form of a coroutine method: same parameters, same result."""

    @functools.wraps(method)
    def call(self: SyncClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.run(lambda: method(self._client, *args, **kwargs))

    return call


def _stream(
    method: Callable[Concatenate[Client, P], AsyncIterator[T]],
) -> Callable[Concatenate[SyncClient, P], SyncStream[T]]:
    """The synchronous form of a method that returns an asynchronous iterator."""

    @functools.wraps(method)
    def call(self: SyncClient, /, *args: P.args, **kwargs: P.kwargs) -> SyncStream[T]:
        return SyncStream(self, self.make(lambda: method(self._client, *args, **kwargs)))

    return call


class SyncStream(Generic[T]):
    """An iterator over what an asynchronous one gives. `close`, or `with`, ends it early."""

    def __init__(self, client: SyncClient, stream: AsyncIterator[T]) -> None:
        self._client = client
        self._stream = stream

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        async def step() -> T:
            return await anext(self._stream)

        try:
            return self._client.run(step)
        except StopAsyncIteration:
            raise StopIteration from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the stream."""
        if isinstance(self._stream, AsyncGenerator):
            self._client.run(self._stream.aclose)


class SyncWatch(SyncStream[event_pb2.Event]):
    """The synchronous form of `Watch`."""

    def __init__(self, client: SyncClient, watch: Watch) -> None:
        super().__init__(client, aiter(watch))
        self._watch = watch

    @property
    def targets(self) -> Sequence[Target]:
        """The sessions and their cursors."""
        return self._watch.targets

    @property
    def cursor(self) -> int:
        """The last sequence of the only, or first, session that was handed out."""
        return self._watch.cursor

    def updates(self) -> SyncStream[Update]:
        """Everything that the watch tells, for all of its sessions."""
        return SyncStream(self._client, self._watch.updates())

    def close(self) -> None:
        """Ends the stream."""
        super().close()
        self._client.run(self._watch.aclose)


def _watch(
    method: Callable[Concatenate[Client, P], Watch],
) -> Callable[Concatenate[SyncClient, P], SyncWatch]:
    """The synchronous form of a method that makes a watch."""

    @functools.wraps(method)
    def call(self: SyncClient, /, *args: P.args, **kwargs: P.kwargs) -> SyncWatch:
        return SyncWatch(self, self.make(lambda: method(self._client, *args, **kwargs)))

    return call


class SyncClient:
    """A synchronous client; the parameters are those of `Client`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._client = Client(*args, **kwargs)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="bridle-client", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.run_until_complete(self._settle())
            self._loop.close()

    async def _settle(self) -> None:
        """Waits for what gRPC still has to tell this loop: it must not find it closed."""
        own = {asyncio.current_task()}
        if left := asyncio.all_tasks() - own:
            await asyncio.wait(left, timeout=SETTLE)
        await asyncio.sleep(SETTLE / 20)

    def run(self, function: Callable[[], Awaitable[T]]) -> T:
        """Calls a function on the client's loop, and returns what it gives once that is there."""

        async def wrapped() -> T:
            # gRPC takes the loop of the thread that makes a thing for the thing's own.
            return await function()

        future = asyncio.run_coroutine_threadsafe(wrapped(), self._loop)
        try:
            return future.result()
        except BaseException:
            # Such as KeyboardInterrupt: the call must not go on behind the caller's back.
            future.cancel()
            raise

    def make(self, function: Callable[[], T]) -> T:
        """Calls a function on the client's loop and returns its result."""

        async def made() -> T:
            return function()

        return self.run(made)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection and ends the thread. A second time it does nothing."""
        if self._loop.is_closed() or not self._thread.is_alive():
            return
        self.run(self._client.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    @property
    def address(self) -> str:
        """The address of control, "host:port"."""
        return self._client.address

    @property
    def workspace(self) -> str:
        """The workspace of calls that name none; empty means the token's."""
        return self._client.workspace

    start_session = _call(Client.start_session)
    get_session = _call(Client.get_session)
    open_approvals = _call(Client.open_approvals)
    list_sessions = _stream(Client.list_sessions)
    update_session = _call(Client.update_session)
    delete_session = _call(Client.delete_session)
    send = _call(Client.send)
    interrupt = _call(Client.interrupt)
    stop = _call(Client.stop)
    kill = _call(Client.kill)
    resume = _call(Client.resume)
    respond = _call(Client.respond)
    release_queue = _call(Client.release_queue)
    list_inputs = _stream(Client.list_inputs)
    cancel_input = _call(Client.cancel_input)
    list_events = _stream(Client.list_events)
    get_command = _call(Client.get_command)
    wait = _call(Client.wait)
    watch = _watch(Client.watch)
    watch_many = _watch(Client.watch_many)
    watch_sessions = _stream(Client.watch_sessions)
    read_artifact = _stream(Client.read_artifact)

    list_hosts = _stream(Client.list_hosts)
    list_agents = _stream(Client.list_agents)
    drain_host = _call(Client.drain_host)
    remove_host = _call(Client.remove_host)
    create_join_token = _call(Client.create_join_token)

    who_am_i = _call(Client.who_am_i)
    create_token = _call(Client.create_token)
    list_tokens = _stream(Client.list_tokens)
    revoke_token = _call(Client.revoke_token)
    create_workspace = _call(Client.create_workspace)
    list_workspaces = _stream(Client.list_workspaces)

    health = _call(Client.health)
