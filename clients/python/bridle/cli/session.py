"""The verbs of a session: start, send, interrupt, stop, kill, resume, delete."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from bridle.cli import output
from bridle.cli.base import Call, ExitCode, check_text, command, text_of
from bridle.cli.output import PAIR, SPAN

if TYPE_CHECKING:
    from bridle.client import Client
    from bridle.v1 import receipt_pb2, session_pb2

_AFTER = ("run", "hold", "drop")


async def answer(call: Call, client: Client, word: str, receipt: receipt_pb2.Receipt) -> int:
    """Prints what became of a verb: `sent`, or with --wait its outcome. Returns the exit code."""
    if call.wait:
        receipt = await client.wait(receipt)
    if call.json:
        output.json(receipt)
    elif call.wait:
        output.line(output.outcome_text(receipt))
    else:
        output.line(word)
    return _exit_code(call, receipt)


def _exit_code(call: Call, receipt: receipt_pb2.Receipt) -> int:
    """The exit code of an outcome; notes on stderr what had no effect."""
    from bridle.errors import from_reason
    from bridle.v1 import receipt_pb2 as pb

    outcome = receipt.outcome
    if outcome.state == pb.OUTCOME_STATE_NOT_RUN:
        if outcome.error_reason:
            raise from_reason(outcome.error_reason, outcome.message or "the host refused")
        call.note(f"it did not run: {output.outcome_text(receipt)}")
        return ExitCode.FAILED_PRECONDITION if call.wait else ExitCode.DONE
    if outcome.state == pb.OUTCOME_STATE_UNKNOWN:
        call.note(f"whether it ran is not known: {output.outcome_text(receipt)}")
        return ExitCode.FAILURE
    if receipt.verb == pb.VERB_INTERRUPT:
        missed = {
            pb.OUTCOME_REASON_NO_TURN: "it hit nothing: no turn was on",
            pb.OUTCOME_REASON_TURN_ALREADY_ENDED: "it hit nothing: that turn was over",
        }.get(outcome.reason)
        if missed:
            call.note(missed)
            return ExitCode.FAILED_PRECONDITION if call.wait else ExitCode.DONE
    elif outcome.reason == pb.OUTCOME_REASON_ALREADY_ENDED:
        call.note("the session had ended already")
    return ExitCode.DONE


def _policy(options: dict[str, Any]) -> session_pb2.SessionPolicy | None:
    """The policy that the options of `start` ask for; None where they ask for nothing."""
    from bridle.calls import duration_of
    from bridle.v1 import session_pb2 as pb

    policy = pb.SessionPolicy()
    if options["after_interrupt"]:
        name = f"AFTER_INTERRUPT_{options['after_interrupt'].upper()}"
        policy.after_interrupt = pb.AfterInterrupt.Value(name)
    if options["consume"]:
        policy.consume = pb.ConsumePolicy.Value(f"CONSUME_POLICY_{options['consume'].upper()}")
    if options["approval"]:
        policy.approval = pb.ApprovalPolicy.Value(f"APPROVAL_POLICY_{options['approval'].upper()}")
    for word in ("allow", "ask", "deny"):
        policy.approval_rules.extend(rules_of(options[word], word))
    for name in _LIMITS:
        length = duration_of(options[name])
        if length is not None:
            getattr(policy, name).CopyFrom(length)
    return policy if policy.ListFields() else None


def rules_of(texts: Iterable[str], word: str) -> list[session_pb2.ApprovalRule]:
    """The rules that options name; `word` is what they decide. Raises UsageError."""
    from bridle.approvals import parse_rule
    from bridle.v1 import session_pb2 as pb

    decision = pb.ApprovalPolicy.Value(f"APPROVAL_POLICY_{word.upper()}")
    try:
        return [parse_rule(check_text(text, "a rule"), decision) for text in texts]
    except ValueError as error:
        raise click.UsageError(str(error)) from None


_LIMITS = {
    "start_timeout": "How long the agent may take to come up (60s).",
    "turn_timeout": "How long a turn may take.",
    "approval_timeout": "How long an approval may wait.",
    "input_ttl": "How long an input may wait.",
    "idle_ttl": "How long the session may be idle.",
    "interrupt_grace": "How long an interrupted turn may take to end (5s).",
}


@command("start", wait=True)
@click.argument("slug")
@click.argument("prompt", nargs=-1)
@click.option("--agent", metavar="NAME", help="The agent's driver, such as shell.")
@click.option("--dir", "directory", metavar="D", help="The working directory on the host.")
@click.option("--host", metavar="H", help="The host, by name or id.")
@click.option(
    "--agent-command", "--command", "agent_command", default="", help="The agent's command line."
)
@click.option("--title", default="", help="A line for people.")
@click.option("-l", "--label", "labels", type=PAIR, multiple=True, help="KEY=VALUE; repeatable.")
@click.option("--env", type=PAIR, multiple=True, help="KEY=VALUE for the agent; repeatable.")
@click.option(
    "--approval", "--approvals", type=click.Choice(["ask", "allow", "deny"]), help="Who approves."
)
@click.option("--allow", multiple=True, metavar="RULE", help="Such as 'Bash(git status*)'.")
@click.option("--deny", multiple=True, metavar="RULE", help="Wins over the others; repeatable.")
@click.option("--ask", multiple=True, metavar="RULE", help="Wins over --allow; repeatable.")
@click.option("--consume", type=click.Choice(["one", "all"]), help="Inputs that a turn takes.")
@click.option("--after-interrupt", type=click.Choice(_AFTER), help="The queue's way then.")
async def start(call: Call, slug: str, prompt: tuple[str, ...], **options: Any) -> int:
    """Start the session SLUG with an agent, and PROMPT as its first input ("-" reads stdin)."""
    agent = options["agent"] or call.settings.agent
    if not agent:
        raise click.UsageError("missing option --agent; `bridle agents` lists them")
    directory = options["directory"]
    async with call.client() as client:
        response = await client.start_session(
            check_text(slug, "the slug"),
            agent=agent,
            prompt=text_of(prompt),
            directory=os.path.abspath(directory) if directory else "",  # noqa: ASYNC240
            host=options["host"] or call.settings.host,
            agent_command=options["agent_command"],
            title=options["title"],
            labels=dict(options["labels"]),
            environment=dict(options["env"]),
            policy=_policy(options),
        )
        receipt = await client.wait(response.receipt) if call.wait else response.receipt
        code = _exit_code(call, receipt)
        if call.json:
            output.json(response.session)
        else:
            output.line("started")
        return code


for _name, _help in _LIMITS.items():
    _flag = f"--{_name.replace('_', '-')}"
    start.params.append(click.Option([_flag], type=SPAN, help=_help))


@command("send", wait=True)
@click.argument("words", nargs=-1, metavar="[SLUG] [TEXT]...")
@click.option("--now", is_flag=True, help="Interrupt the turn that is on; then this runs first.")
@click.option("--steer", is_flag=True, help="Into the turn that is on.")
@click.option("--or-queue", is_flag=True, help="With --steer: queue it where that can't be.")
@click.option("--resume", "resume_", is_flag=True, help="Resume the session if it has ended.")
@click.option("--ttl", type=SPAN, help="Cancel it if it waits for longer.")
async def send(
    call: Call,
    words: tuple[str, ...],
    now: bool,
    steer: bool,
    or_queue: bool,
    resume_: bool,
    ttl: float | None,
) -> int:
    """Send the agent TEXT ("-" reads stdin); it waits its turn in the queue."""
    from bridle.v1 import input_pb2

    slug, text = call.session_and_text(words)
    session = call.session(slug)
    if not text:
        raise click.UsageError("missing argument TEXT")
    if now and steer:
        raise click.UsageError("--now and --steer exclude each other")
    mode = input_pb2.INPUT_MODE_UNSPECIFIED
    if now or steer:
        mode = input_pb2.INPUT_MODE_NOW if now else input_pb2.INPUT_MODE_STEER
    async with call.client() as client:
        response = await client.send(
            session, text, mode=mode, or_queue=or_queue, resume_if_ended=resume_, time_to_live=ttl
        )
        return await answer(call, client, "sent", response.receipt)


@command("interrupt", wait=True)
@click.argument("slug", required=False)
@click.option("--turn", type=click.IntRange(min=1), help="Only if this turn is still on.")
@click.option("--hold", is_flag=True, help="Hold the queue until `bridle queue release`.")
@click.option("--drop", is_flag=True, help="Cancel the inputs that wait.")
@click.option("--tree", is_flag=True, help="Its children too.")
@click.option("--background", is_flag=True, help="End background jobs of earlier turns too.")
@click.option("--grace", type=SPAN, help="How long it may take before processes are killed.")
async def interrupt(
    call: Call,
    slug: str | None,
    turn: int | None,
    hold: bool,
    drop: bool,
    tree: bool,
    background: bool,
    grace: float | None,
) -> int:
    """Interrupt the turn that is on. The agent lives, and goes on with what waits in its queue."""
    from bridle.v1 import session_pb2

    session = call.session(slug)
    if hold and drop:
        raise click.UsageError("--hold and --drop exclude each other")
    after = session_pb2.AFTER_INTERRUPT_UNSPECIFIED
    if hold or drop:
        after = session_pb2.AFTER_INTERRUPT_HOLD if hold else session_pb2.AFTER_INTERRUPT_DROP
    async with call.client() as client:
        response = await client.interrupt(
            session,
            turn=turn,
            after=after,
            include_background=background,
            grace=grace,
            tree=tree,
        )
        code = await answer(call, client, "sent", response.receipt)
        await _children(call, client, response.children)
        return code


async def _children(call: Call, client: Client, receipts: Any) -> None:
    for receipt in receipts:
        if call.json or call.wait:
            decided = await client.wait(receipt) if call.wait else receipt
            output.json(decided) if call.json else output.line(output.outcome_text(decided))


@command("stop", wait=True)
@click.argument("slug", required=False)
@click.option("--grace", type=SPAN, help="How long the turn may take before it is interrupted.")
@click.option("--tree", is_flag=True, help="Its children too.")
async def stop(call: Call, slug: str | None, grace: float | None, tree: bool) -> int:
    """Let the agent finish its turn, report what it leaves, and end."""
    session = call.session(slug)
    async with call.client() as client:
        response = await client.stop(session, grace=grace, tree=tree)
        code = await answer(call, client, "sent", response.receipt)
        await _children(call, client, response.children)
        return code


@command("kill", wait=True)
@click.argument("slug", required=False)
async def kill(call: Call, slug: str | None) -> int:
    """End the session and its children now."""
    session = call.session(slug)
    async with call.client() as client:
        response = await client.kill(session)
        code = await answer(call, client, "sent", response.receipt)
        await _children(call, client, response.children)
        return code


@command("resume", wait=True)
@click.argument("words", nargs=-1, metavar="[SLUG] [TEXT]...")
@click.option("--mode", type=click.Choice(["auto", "native", "seeded"]), help="How.")
@click.option("--host", default="", metavar="H", help="Another host, by name or id.")
@click.option("--force", is_flag=True, help="Give up a run whose host is away.")
async def resume(
    call: Call, words: tuple[str, ...], mode: str | None, host: str, force: bool
) -> int:
    """Take an ended session up again, with TEXT as the new run's first input."""
    from bridle.v1 import event_pb2

    # Never itself inside a session: who asks is live.
    slug, text = (words[0] if words else None), text_of(words[1:])
    async with call.client() as client:
        response = await client.resume(
            call.session(slug),
            mode=event_pb2.ResumeMode.Value(f"RESUME_MODE_{(mode or 'auto').upper()}"),
            host=host,
            force=force,
            prompt=text,
        )
        receipt = await client.wait(response.receipt) if call.wait else response.receipt
        code = _exit_code(call, receipt)
        if call.json:
            output.json(response.session)
        else:
            output.line("resumed")
        return code


@command("delete")
@click.argument("slug")
async def delete(call: Call, slug: str) -> int:
    """Delete an ended session with its log; its slug is free again."""
    async with call.client() as client:
        response = await client.delete_session(call.session(slug))
        return await answer(call, client, "deleted", response.receipt)
