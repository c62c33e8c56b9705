"""Bridle for Python: the client library and the command line.

    import bridle

    async with bridle.Client() as client:
        await client.send("fix-auth", "go on")

`bridle.Client` is asynchronous, `bridle.SyncClient` is not. What goes wrong is a
`bridle.BridleError`, with a class for each reason. The contract's messages are in `bridle.v1`.

Names are imported when they are first used, so that `import bridle` costs nothing to a program
that only wants one of them, such as the command line.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bridle.calls import by_id as by_id
    from bridle.client import Client as Client
    from bridle.errors import BridleError as BridleError
    from bridle.errors import Code as Code
    from bridle.errors import ConnectionLostError as ConnectionLostError
    from bridle.errors import DeadlineExceededError as DeadlineExceededError
    from bridle.errors import Field as Field
    from bridle.errors import SettingsError as SettingsError
    from bridle.errors_by_reason import AgentNotInstalledError as AgentNotInstalledError
    from bridle.errors_by_reason import ApprovalNotFoundError as ApprovalNotFoundError
    from bridle.errors_by_reason import ApprovalResolvedError as ApprovalResolvedError
    from bridle.errors_by_reason import ArtifactNotFoundError as ArtifactNotFoundError
    from bridle.errors_by_reason import CapabilityMissingError as CapabilityMissingError
    from bridle.errors_by_reason import ChildLimitError as ChildLimitError
    from bridle.errors_by_reason import CommandNotFoundError as CommandNotFoundError
    from bridle.errors_by_reason import CursorCompactedError as CursorCompactedError
    from bridle.errors_by_reason import CursorForeignError as CursorForeignError
    from bridle.errors_by_reason import DirectoryMissingError as DirectoryMissingError
    from bridle.errors_by_reason import EpochFencedError as EpochFencedError
    from bridle.errors_by_reason import HostFullError as HostFullError
    from bridle.errors_by_reason import HostInUseError as HostInUseError
    from bridle.errors_by_reason import HostNotFoundError as HostNotFoundError
    from bridle.errors_by_reason import HostTwinError as HostTwinError
    from bridle.errors_by_reason import HostUnreachableError as HostUnreachableError
    from bridle.errors_by_reason import InputNotFoundError as InputNotFoundError
    from bridle.errors_by_reason import InternalError as InternalError
    from bridle.errors_by_reason import InvalidRequestError as InvalidRequestError
    from bridle.errors_by_reason import LogCorruptError as LogCorruptError
    from bridle.errors_by_reason import MessageTooLargeError as MessageTooLargeError
    from bridle.errors_by_reason import NameTakenError as NameTakenError
    from bridle.errors_by_reason import NoHostError as NoHostError
    from bridle.errors_by_reason import NotAllowedError as NotAllowedError
    from bridle.errors_by_reason import QueueFullError as QueueFullError
    from bridle.errors_by_reason import RateLimitedError as RateLimitedError
    from bridle.errors_by_reason import RequestIdExpiredError as RequestIdExpiredError
    from bridle.errors_by_reason import RequestIdReusedError as RequestIdReusedError
    from bridle.errors_by_reason import SessionEndedError as SessionEndedError
    from bridle.errors_by_reason import SessionEndingError as SessionEndingError
    from bridle.errors_by_reason import SessionLiveError as SessionLiveError
    from bridle.errors_by_reason import SessionNotFoundError as SessionNotFoundError
    from bridle.errors_by_reason import ShuttingDownError as ShuttingDownError
    from bridle.errors_by_reason import SlugTakenError as SlugTakenError
    from bridle.errors_by_reason import StartFailedError as StartFailedError
    from bridle.errors_by_reason import StoreFullError as StoreFullError
    from bridle.errors_by_reason import TokenExpiredError as TokenExpiredError
    from bridle.errors_by_reason import TokenInvalidError as TokenInvalidError
    from bridle.errors_by_reason import TokenMissingError as TokenMissingError
    from bridle.errors_by_reason import TokenNotFoundError as TokenNotFoundError
    from bridle.errors_by_reason import TokenRevokedError as TokenRevokedError
    from bridle.errors_by_reason import TooManyWatchesError as TooManyWatchesError
    from bridle.errors_by_reason import VersionUnsupportedError as VersionUnsupportedError
    from bridle.errors_by_reason import WorkspaceNotFoundError as WorkspaceNotFoundError
    from bridle.ids import uuid7 as uuid7
    from bridle.retry import Backoff as Backoff
    from bridle.retry import RetryPolicy as RetryPolicy
    from bridle.sync import SyncClient as SyncClient
    from bridle.sync import SyncStream as SyncStream
    from bridle.sync import SyncWatch as SyncWatch
    from bridle.watching import Connected as Connected
    from bridle.watching import Disconnected as Disconnected
    from bridle.watching import Update as Update
    from bridle.watching import Watch as Watch

_HOME = {
    "by_id": "calls",
    "Client": "client",
    "BridleError": "errors",
    "Code": "errors",
    "ConnectionLostError": "errors",
    "DeadlineExceededError": "errors",
    "Field": "errors",
    "SettingsError": "errors",
    "uuid7": "ids",
    "Backoff": "retry",
    "RetryPolicy": "retry",
    "SyncClient": "sync",
    "SyncStream": "sync",
    "SyncWatch": "sync",
    "Connected": "watching",
    "Disconnected": "watching",
    "Update": "watching",
    "Watch": "watching",
}


def __getattr__(name: str) -> object:
    home = _HOME.get(name) or ("errors_by_reason" if name.endswith("Error") else None)
    value = getattr(import_module(f"bridle.{home}"), name, None) if home else None
    if value is None:
        raise AttributeError(f"module 'bridle' has no attribute {name!r}")
    globals()[name] = value
    return value
