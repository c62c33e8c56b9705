"""Where sessions stand: ls, status, wait, approve, deny, health."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from bridle.cli import output
from bridle.cli.base import Call, ExitCode, command
from bridle.cli.output import PAIR, SPAN

if TYPE_CHECKING:
    from bridle.client import Client
    from bridle.v1 import event_pb2, session_pb2, session_service_pb2


@command("ls")
@click.option("-a", "--all", "all_", is_flag=True, help="Ended sessions too.")
@click.option("-q", "--quiet", is_flag=True, help="Only the slugs.")
@click.option("-l", "--label", "labels", type=PAIR, multiple=True, help="Only with KEY=VALUE.")
@click.option("--filter", "terms", default="", metavar="TERMS", help='Such as "agent = shell".')
async def ls(
    call: Call, all_: bool, quiet: bool, labels: tuple[tuple[str, str], ...], terms: str
) -> None:
    """List sessions, the newest first."""
    from bridle.terminal import clean_line

    wanted = [terms] if terms else []
    wanted += [f"labels.{key} = {value}" for key, value in labels]
    if not all_:
        wanted.append("live = true")
    async with call.client() as client:
        sessions = [found async for found in client.list_sessions(" AND ".join(wanted))]
        hosts = {} if call.json or quiet else await _host_names(client)
    if call.json:
        for session in sessions:
            output.json(session)
    elif quiet:
        for session in sessions:
            output.line(clean_line(session.slug))
    else:
        headers = ("SLUG", "AGENT", "PHASE", "TURN", "QUEUE", "HOST", "AGE", "TITLE")
        output.table(headers, [_row(session, hosts) for session in sessions])


async def _host_names(client: Client) -> dict[str, str]:
    """The hosts' names by their ids; none where the token may not list them."""
    from bridle.errors import BridleError

    try:
        return {host.host_id: host.name async for host in client.list_hosts()}
    except BridleError:
        return {}


def _row(session: session_pb2.Session, hosts: dict[str, str]) -> tuple[str, ...]:
    return (
        session.slug,
        session.agent,
        phase_text(session),
        str(session.turn or "-"),
        queue_text(session),
        hosts.get(session.host_id, session.host_id),
        output.age(session.create_time),
        session.title,
    )


def phase_text(session: session_pb2.Session) -> str:
    """The phase; with a mark where the host can't be reached."""
    from bridle.render import enum_name
    from bridle.v1 import session_pb2 as pb

    away = session.reachability == pb.REACHABILITY_UNREACHABLE and not is_ended(session)
    return enum_name(session, "phase") + (" (unreachable)" if away else "")


def queue_text(session: session_pb2.Session) -> str:
    """How many inputs wait, and whether they are held."""
    from bridle.v1 import session_pb2 as pb

    held = " HELD" if session.queue_state == pb.QUEUE_STATE_HELD else ""
    return f"{session.inputs_waiting}{held}"


def is_ended(session: session_pb2.Session) -> bool:
    """Whether the newest run is over."""
    from bridle.v1 import session_pb2 as pb

    return session.phase in (pb.PHASE_STOPPED, pb.PHASE_FAILED, pb.PHASE_KILLED)


@command("status")
@click.argument("slug", required=False)
async def status(call: Call, slug: str | None) -> None:
    """Tell where the session stands."""
    async with call.client() as client:
        session = await client.get_session(call.session(slug))
        hosts = {} if call.json else await _host_names(client)
        waiting = session.open_approvals and not call.json
        asked = await client.open_approvals(call.session(slug)) if waiting else ()
    if call.json:
        output.json(session)
    else:
        output.pairs(_details(session, hosts) + _approvals(session.policy, asked))


def _details(session: session_pb2.Session, hosts: dict[str, str]) -> list[tuple[str, str]]:
    from bridle.render import enum_name, principal_name

    who = principal_name(session.started_by)
    by = f"by {who}" if who else ""
    turn = f"{session.turn}{' (open)' if session.turn_open else ''}"
    rows = [
        ("session", f"{session.workspace}/{session.slug}"),
        ("id", session.session_id),
        ("title", session.title),
        ("phase", phase_text(session)),
        ("end", enum_name(session, "end_reason") if session.end_reason else ""),
        ("message", session.end_message),
        ("run", str(session.run)),
        ("turn", turn if session.turn else "-"),
        ("queue", queue_text(session)),
        ("approves", approves_text(session.policy)),
        ("agent", f"{session.agent} {session.agent_command}".strip()),
        ("host", hosts.get(session.host_id, session.host_id)),
        ("directory", session.directory),
        ("containment", session.containment),
        ("labels", ", ".join(f"{key}={value}" for key, value in sorted(session.labels.items()))),
        ("parent", session.parent_session_id),
        ("events", str(session.last_sequence)),
        ("started", f"{output.stamp_text(session.create_time)} {by}"),
    ]
    return [(name, value) for name, value in rows if value]


def approves_text(policy: session_pb2.SessionPolicy) -> str:
    """Who answers approvals; empty where it is what it is without a word."""
    from bridle.render import enum_name

    return enum_name(policy, "approval") if policy.approval else ""


def rule_rows(policy: session_pb2.SessionPolicy) -> list[tuple[str, str]]:
    """The rules of approvals, and who granted those that an "always" made."""
    from bridle.approvals import rule_text
    from bridle.render import enum_name, principal_name

    rows = []
    for rule in policy.approval_rules:
        who = principal_name(rule.granted_by)
        by = f" (always, by {who})" if rule.approval_id and who else ""
        rows.append(("rule", f"{enum_name(rule, 'decision')} {rule_text(rule)}{by}"))
    return rows


def _approvals(
    policy: session_pb2.SessionPolicy, approvals: Iterable[session_service_pb2.OpenApproval]
) -> list[tuple[str, str]]:
    """The rules of approvals, and what the open ones ask for."""
    from bridle.render import call_text
    from bridle.terminal import clean_line

    rows = rule_rows(policy)
    for each in approvals:
        asked = each.request
        why = f", {clean_line(asked.reason)}" if asked.reason else ""
        rows.append(("approval", f"{asked.approval_id} wanted: {call_text(asked)}{why}"))
    return rows


class Goal(click.ParamType[str]):
    """What `wait` waits for."""

    name = "goal"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        goal = str(value)
        number = goal.removeprefix("turn=") if goal.startswith("turn=") else ""
        if goal not in ("idle", "running", "approval", "end") and not number.isdecimal():
            self.fail(f'"{goal}" is none of idle, running, turn=N, approval, end', param, ctx)
        return goal


@command("wait")
@click.argument("slug", required=False)
@click.option(
    "--for",
    "goal",
    type=Goal(),
    default="idle",
    show_default=True,
    help="idle: no turn is on and none waits; running; turn=N: turn N has begun; approval: one is"
    " open; end. An end ends every wait.",
)
@click.option("--timeout", type=SPAN, help="Give up after this long, with exit code 6.")
async def wait(call: Call, slug: str | None, goal: str, timeout: float | None) -> int:
    """Wait until the session is idle, running, in want of an approval, or has ended.

    Prints the phase. Exit code 1 where it FAILED, 7 where it ended before it got there.
    """
    from bridle.errors import DeadlineExceededError
    from bridle.render import enum_name
    from bridle.v1 import session_pb2 as pb

    async with call.client() as client:
        try:
            async with asyncio.timeout(timeout):
                session = await _until(client, call.session(slug), goal)
        except TimeoutError:
            raise DeadlineExceededError(f"the session is not there after {timeout:g} s") from None
    output.json(session) if call.json else output.line(enum_name(session, "phase"))
    if session.phase == pb.PHASE_FAILED:
        return ExitCode.FAILURE
    if is_ended(session) and goal not in ("idle", "end") and not _is_there(session, goal):
        return ExitCode.FAILED_PRECONDITION
    return ExitCode.DONE


async def _until(
    client: Client, session: str | session_pb2.SessionRef, goal: str
) -> session_pb2.Session:
    """The session once it is there, or has ended. The watch only tells when to look again."""
    from bridle.v1 import event_pb2, watch_pb2
    from bridle.watching import Disconnected

    kinds: list[event_pb2.EventKind.ValueType] = [
        event_pb2.EVENT_KIND_PHASE_CHANGED,
        event_pb2.EVENT_KIND_SESSION_ENDED,
        event_pb2.EVENT_KIND_INPUT_QUEUED,
        event_pb2.EVENT_KIND_INPUT_CONSUMED,
        event_pb2.EVENT_KIND_INPUT_CANCELLED,
        event_pb2.EVENT_KIND_QUEUE_HELD,
    ]
    never = watch_pb2.WATCH_UNTIL_NEVER
    async with client.watch(session, tail=0, until=never, kinds=kinds) as watch:
        async for update in watch.updates():
            if isinstance(update.item, Disconnected):
                continue
            found = await client.get_session(session)
            if is_ended(found) or _is_there(found, goal):
                return found
    return await client.get_session(session)


def _is_there(session: session_pb2.Session, goal: str) -> bool:
    from bridle.v1 import session_pb2 as pb

    if goal.startswith("turn="):
        return session.turn >= int(goal.removeprefix("turn="))
    if goal == "running":
        return session.turn_open
    if goal == "approval":
        return bool(session.open_approvals)
    held = session.queue_state == pb.QUEUE_STATE_HELD
    return (
        goal == "idle"
        # While its events come in parts, a turn may have begun and its phase not be told yet.
        and session.phase == pb.PHASE_IDLE
        and not session.turn_open
        and (held or not session.inputs_waiting)
    )


@command("approve", wait=True)
@click.argument("words", nargs=-1, metavar="[SLUG] [APPROVAL]")
@click.option("--always", is_flag=True, help="This very call from now on, over a resume too.")
@click.option("--rule", metavar="RULE", help="From now on all of these, such as 'Bash(git*)'.")
@click.option("--message", default="", help="What the agent is told.")
async def approve(
    call: Call, words: tuple[str, ...], always: bool, rule: str | None, message: str
) -> int:
    """Allow what the agent asks for; APPROVAL may be left out where only one is open."""
    from bridle.cli.session import rules_of
    from bridle.v1 import event_pb2 as pb

    wider = rules_of([rule], "allow")[0] if rule is not None else None
    if always or wider is not None:
        return await _respond(call, words, pb.APPROVAL_DECISION_ALLOW_ALWAYS, message, wider)
    return await _respond(call, words, pb.APPROVAL_DECISION_ALLOW, message)


@command("deny", wait=True)
@click.argument("words", nargs=-1, metavar="[SLUG] [APPROVAL]")
@click.option("--message", default="", help="What the agent is told.")
async def deny(call: Call, words: tuple[str, ...], message: str) -> int:
    """Deny what the agent asks for; APPROVAL may be left out where only one is open."""
    from bridle.v1 import event_pb2 as pb

    return await _respond(call, words, pb.APPROVAL_DECISION_DENY, message)


async def _respond(
    call: Call,
    words: tuple[str, ...],
    decision: event_pb2.ApprovalDecision.ValueType,
    message: str,
    rule: session_pb2.ApprovalRule | None = None,
) -> int:
    from bridle.cli.session import answer
    from bridle.errors import error_class

    if len(words) > 2:
        raise click.UsageError("too many arguments")
    session = call.session(words[0] if words else None)
    async with call.client() as client:
        approval = words[1] if len(words) == 2 else ""
        if not approval:
            found = await client.get_session(session)
            if not found.open_approvals:
                raise error_class("APPROVAL_NOT_FOUND")("no approval is open")
            if len(found.open_approvals) > 1:
                listed = ", ".join(found.open_approvals)
                raise click.UsageError(f"several approvals are open, name one: {listed}")
            approval = found.open_approvals[0]
        response = await client.respond(session, approval, decision, message=message, rule=rule)
        return await answer(call, client, "sent", response.receipt)


@command("health")
async def health(call: Call) -> int:
    """Tell whether control serves. Exit code 6 where it does not."""
    from grpc_health.v1 import health_pb2

    async with call.client() as client:
        response = await client.health(timeout=5.0)
    if call.json:
        output.json(response)
    else:
        output.line(health_pb2.HealthCheckResponse.ServingStatus.Name(response.status))
    serving = response.status == health_pb2.HealthCheckResponse.SERVING
    return ExitCode.DONE if serving else ExitCode.UNAVAILABLE
