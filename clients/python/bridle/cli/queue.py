"""What waits for a session: queue list, cancel, clear, release."""

from __future__ import annotations

import click

from bridle.cli import output
from bridle.cli.base import Call, command


@command("list")
@click.argument("slug", required=False)
@click.option("-a", "--all", "all_", is_flag=True, help="Consumed and cancelled ones too.")
async def list_(call: Call, slug: str | None, all_: bool) -> None:
    """List the inputs that wait, in the order of the queue."""
    from bridle.render import content_text, enum_name, principal_name

    async with call.client() as client:
        found = client.list_inputs(call.session(slug), "" if all_ else "state = WAITING")
        inputs = [item async for item in found]
    if call.json:
        for item in inputs:
            output.json(item)
        return
    rows = [
        (
            item.input_id,
            enum_name(item, "mode"),
            enum_name(item, "state"),
            str(item.turn or "-"),
            output.age(item.create_time),
            principal_name(item.principal),
            content_text(item.content),
        )
        for item in inputs
    ]
    output.table(("INPUT", "MODE", "STATE", "TURN", "AGE", "BY", "TEXT"), rows)


@command("cancel", wait=True)
@click.argument("words", nargs=-1, metavar="[SLUG] INPUT")
async def cancel(call: Call, words: tuple[str, ...]) -> int:
    """Cancel an input that waits. The host decides: a turn may take it first."""
    from bridle.cli.session import answer

    if not 1 <= len(words) <= 2:
        raise click.UsageError("it takes SLUG and INPUT")
    if len(words) == 1 and not call.settings.session:
        raise click.UsageError("missing argument INPUT; `bridle queue list` lists them")
    session = call.session(words[0] if len(words) == 2 else None)
    async with call.client() as client:
        response = await client.cancel_input(session, words[-1])
        return await answer(call, client, "sent", response.receipt)


@command("clear", wait=True)
@click.argument("slug", required=False)
async def clear(call: Call, slug: str | None) -> None:
    """Cancel all inputs that wait."""
    from bridle.cli.session import answer
    from bridle.errors import BridleError

    session = call.session(slug)
    receipts = []
    async with call.client() as client:
        waiting = [item async for item in client.list_inputs(session, "state = WAITING")]
        for item in waiting:
            try:
                response = await client.cancel_input(session, item.input_id)
            except BridleError as error:
                if error.reason != "INPUT_NOT_FOUND":
                    raise
                continue  # a turn took it in the meantime
            receipts.append(response.receipt)
        if not (call.json or call.wait):
            output.line("sent")
        else:
            for receipt in receipts:
                await answer(call, client, "sent", receipt)
    if not waiting:
        call.note("nothing waits")


@command("release", wait=True)
@click.argument("slug", required=False)
async def release(call: Call, slug: str | None) -> int:
    """Let a held queue go on."""
    from bridle.cli.session import answer

    async with call.client() as client:
        response = await client.release_queue(call.session(slug))
        return await answer(call, client, "sent", response.receipt)
