"""What a stopped session left behind: the list, and one artifact to stdout or into a file."""

from __future__ import annotations

import codecs
import hashlib
import os
import secrets
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from bridle.cli import output
from bridle.cli.base import Call, ExitCode, command

if TYPE_CHECKING:
    from bridle.client import Client
    from bridle.v1 import event_pb2, session_pb2


@command("artifacts")
@click.argument("slug", required=False)
@click.argument("name", required=False)
@click.option("--run", type=click.IntRange(min=0), default=0, help="Of this run (the newest).")
@click.option("--read", metavar="NAME", help="The same as NAME, where the slug is left out.")
@click.option(
    "-o",
    "--output",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the artifact into this file instead of to stdout.",
)
async def artifacts(
    call: Call, slug: str | None, name: str | None, run: int, read: str | None, path: Path | None
) -> int | None:
    """List what the session left behind when it was stopped, or read NAME of it."""
    name = name if name is not None else read
    if path is not None and name is None:
        raise click.UsageError("--output needs the NAME of an artifact")
    session = call.session(slug)
    async with call.client() as client:
        event = await _reported(client, session, run)
        if name is not None:
            wanted = event.run if event is not None else run
            known = event.artifacts_reported.artifacts if event is not None else ()
            told = next((item.sha256 for item in known if item.name == name), "")
            found = await _write(client.read_artifact(session, name, run=wanted), path)
            if told and told != found:
                call.note("it is not what was reported: it was changed since")
            return None
        if event is None:
            await client.get_session(session)
            call.note("none were reported; they are when a session is stopped")
            return ExitCode.DONE
    _show(call, event.artifacts_reported)
    return None


async def _reported(
    client: Client, session: str | session_pb2.SessionRef, run: int
) -> event_pb2.Event | None:
    terms = "kind = ARTIFACTS_REPORTED" + (f" AND run = {run}" if run else "")
    found = [event async for event in client.list_events(session, terms)]
    return found[-1] if found else None


def _show(call: Call, report: event_pb2.ArtifactsReported) -> None:
    from bridle.render import left_behind

    if call.json:
        output.json(report)
        return
    rows = [(item.name, item.media_type or "-", str(item.size)) for item in report.artifacts]
    output.table(("NAME", "TYPE", "BYTES"), rows)
    if report.artifacts_left_out:
        call.note(f"{report.artifacts_left_out} more are not listed")
    for line in left_behind(report):
        output.line(line)


async def _write(pieces: AsyncIterator[bytes], path: Path | None) -> str:
    """Writes an artifact; returns its SHA-256."""
    digest = hashlib.sha256()
    if path is not None:
        with _draft(path) as file:
            async for piece in pieces:
                digest.update(piece)
                file.write(piece)
    elif sys.stdout.isatty():
        async for text in _cleaned(pieces, digest.update):
            sys.stdout.write(text)
        sys.stdout.flush()
    else:
        async for piece in pieces:
            digest.update(piece)
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
    return digest.hexdigest()


async def _cleaned(
    pieces: AsyncIterator[bytes], each: Callable[[bytes], None]
) -> AsyncIterator[str]:
    """An artifact for a terminal, which must not obey it."""
    from bridle.terminal import Cleaner

    decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
    cleaner = Cleaner()
    async for piece in pieces:
        each(piece)
        yield cleaner.feed(decoder.decode(piece))
    yield cleaner.feed(decoder.decode(b"", True)) + cleaner.feed("\n")


@contextmanager
def _draft(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` once it is whole; nothing is left of one that isn't."""
    draft = path.with_name(f".{path.name[:200]}.{secrets.token_hex(4)}")
    try:
        with draft.open("xb") as file:
            yield file
        os.replace(draft, path)
    except OSError as error:
        raise click.ClickException(f"{path}: {error.strerror}") from None
    finally:
        with suppress(OSError):
            draft.unlink()
