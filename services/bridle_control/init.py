"""Makes a store: the workspace "default", and the first token, which may do everything.

Called by `__main__`. The order is such that a failure leaves nothing half done: the file for the
token is made before the store, and taken away if the store can't be made; the secret is on the disk
before the commit that makes it worth anything.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from bridle.v1 import principal_pb2
from bridle_control.settings import SettingsError
from bridle_control.store.api import Tx
from bridle_control.store.sqlite import SqliteStore
from bridle_control.tokens import mint_user_token

#: The first token's name.
FIRST_TOKEN = "admin"


def init(directory: Path, token_file: Path | None) -> str:
    """Makes the store; returns the token's secret, and writes it into the file if one is named.

    Raises StoreOpenError, SettingsError (the file is there, or can't be made).
    """
    if token_file is None:
        return asyncio.run(_make(directory, lambda _: None))
    try:
        descriptor = os.open(token_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise SettingsError(f"{token_file}: {error.strerror}") from error
    with os.fdopen(descriptor, "w", encoding="ascii") as file:

        def keep(secret: str) -> None:
            file.write(secret + "\n")
            file.flush()
            os.fsync(descriptor)

        try:
            return asyncio.run(_make(directory, keep))
        except BaseException:
            token_file.unlink()
            raise


async def _make(directory: Path, keep: Callable[[str], None]) -> str:
    store = await SqliteStore.open(directory, create=True)
    try:
        return await store.write(lambda tx: _first_token(tx, keep))
    finally:
        await store.close()


def _first_token(tx: Tx, keep: Callable[[str], None]) -> str:
    """It never expires: who loses all tokens could make no other."""
    system = principal_pb2.Principal(kind=principal_pb2.PRINCIPAL_KIND_SYSTEM)
    minted = mint_user_token(
        tx,
        workspace="",
        name=FIRST_TOKEN,
        rights=("*",),
        expire_time=0,
        created_by=system.SerializeToString(deterministic=True),
    )
    keep(minted.secret)
    return minted.secret
