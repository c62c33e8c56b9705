"""The rules of a session's approvals: shown, added, taken back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from bridle.cli import output
from bridle.cli.base import Call, ExitCode, check_text, command
from bridle.cli.session import answer, rules_of

if TYPE_CHECKING:
    from bridle.v1 import session_pb2


@command("approvals", wait=True)
@click.argument("slug", required=False)
@click.option(
    "--approval", "--approvals", type=click.Choice(["ask", "allow", "deny"]), help="Who approves."
)
@click.option("--allow", multiple=True, metavar="RULE", help="Such as 'Bash(git status*)'.")
@click.option("--deny", multiple=True, metavar="RULE", help="Wins over the others; repeatable.")
@click.option("--ask", multiple=True, metavar="RULE", help="Wins over --allow; repeatable.")
@click.option("--forget", multiple=True, metavar="RULE", help="Take a rule back; repeatable.")
async def approvals(
    call: Call,
    slug: str | None,
    approval: str | None,
    allow: tuple[str, ...],
    deny: tuple[str, ...],
    ask: tuple[str, ...],
    forget: tuple[str, ...],
) -> int:
    """Show who answers the agent's approvals, or change it: it holds for what is asked next."""
    from bridle.v1 import session_pb2 as pb

    added = [*rules_of(deny, "deny"), *rules_of(ask, "ask"), *rules_of(allow, "allow")]
    session = call.session(slug)
    async with call.client() as client:
        policy = (await client.get_session(session)).policy
        if not (approval or added or forget):
            _show(call, policy)
            return ExitCode.DONE
        made = pb.SessionPolicy(approval=policy.approval)
        if approval:
            made.approval = pb.ApprovalPolicy.Value(f"APPROVAL_POLICY_{approval.upper()}")
        made.approval_rules.extend([*_left(policy, forget), *added])
        response = await client.update_session(
            session, policy=made, policy_fields=("approval", "approval_rules")
        )
        return await answer(call, client, "sent", response.receipt)


def _left(
    policy: session_pb2.SessionPolicy, forgotten: tuple[str, ...]
) -> list[session_pb2.ApprovalRule]:
    """The rules but for those that are forgotten. Raises UsageError for one that isn't there."""
    from bridle.approvals import rule_text

    gone = {check_text(text, "a rule") for text in forgotten}
    missing = gone - {rule_text(rule) for rule in policy.approval_rules}
    if missing:
        raise click.UsageError(f"there is no rule {', '.join(sorted(missing))}")
    return [rule for rule in policy.approval_rules if rule_text(rule) not in gone]


def _show(call: Call, policy: session_pb2.SessionPolicy) -> None:
    from bridle.cli.sessions import rule_rows

    if call.json:
        output.json(policy)
    else:
        from bridle.render import enum_name

        word = enum_name(policy, "approval") if policy.approval else "ASK"
        output.pairs([("approves", word), *rule_rows(policy)])
