"""Approvals from end to end: rules, "always", who decided, and that nothing of it is lost."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from bridle.approvals import parse_rule
from bridle.errors import BridleError
from bridle.v1 import event_pb2, receipt_pb2, session_pb2
from tests.pair import Pair, running_pair, until
from tests.scenarios.support import (
    check_order,
    gate,
    kinds,
    log,
    reaches,
    turn_begins,
    turn_ends,
)

ASK, ALLOW, DENY = (
    session_pb2.APPROVAL_POLICY_ASK,
    session_pb2.APPROVAL_POLICY_ALLOW,
    session_pb2.APPROVAL_POLICY_DENY,
)
WAITING = session_pb2.PHASE_WAITING


def asks(command: str, then: str = "allowed: say yes; denied: say no") -> str:
    """A turn in which the agent asks to run a command."""
    escaped = "".join(f"\\u{ord(sign):04x}" if sign in ' ;"\\' else sign for sign in command)
    return f'ask name=Bash arguments={{"command":"{escaped}"}} to see; {then}'


def resolved(events: list[event_pb2.Event]) -> list[event_pb2.Event]:
    return [event for event in events if event.HasField("approval_resolved")]


def said(events: list[event_pb2.Event], turn: int) -> list[str]:
    return [
        event.agent_message.content[0].text
        for event in events
        if event.turn == turn and event.HasField("agent_message")
    ]


async def start(pair: Pair, prompt: str, **fields: Any) -> None:
    policy = session_pb2.SessionPolicy(**fields)
    await pair.client.start_session("x", agent="scripted", prompt=prompt, policy=policy)


async def restart_all(pair: Pair) -> None:
    """Control and host die at once, the agent lives."""
    await pair.end_host(9)
    await pair.restart_control()
    await pair.start_host()


async def test_what_is_allowed_always_is_a_rule_over_restarts_and_a_resume(tmp_path: Path) -> None:
    async with running_pair(tmp_path) as pair:
        await start(pair, asks("git status"))
        await reaches(pair, "x", WAITING)
        await restart_all(pair)
        shown = await pair.cli("status", "x")
        assert 'wanted: Bash {"command":"git\\u0020status"}, to see' in shown.out

        allowed = await pair.cli("approve", "x", "--always")
        assert (allowed.code, allowed.out) == (0, "sent\n"), allowed
        await turn_ends(pair, "x", 1)
        name = (await pair.client.who_am_i()).principal.name
        [rule] = (await pair.client.get_session("x")).policy.approval_rules
        assert (rule.tool, rule.value, rule.exact) == ("Bash", "git status", True)
        assert (rule.decision, rule.granted_by.name) == (ALLOW, name)
        status = await pair.cli("status", "x")
        assert f"ALLOW Bash(git status) (always, by {name})" in status.out

        await restart_all(pair)
        await pair.client.send("x", asks("git status"))
        await turn_ends(pair, "x", 2)
        await pair.client.wait((await pair.client.stop("x")).receipt)
        await pair.client.resume("x", prompt=asks("git status"))
        await turn_ends(pair, "x", 3)
        events = await log(pair, "x")
        decided = [
            (event.approval_resolved.by, event.approval_resolved.rule.value, event.principal.name)
            for event in resolved(events)
        ]
        assert decided == [
            (event_pb2.APPROVAL_DECIDER_PRINCIPAL, "git status", name),
            (event_pb2.APPROVAL_DECIDER_RULE, "git status", ""),
            (event_pb2.APPROVAL_DECIDER_RULE, "git status", ""),
        ]
        assert [said(events, turn) for turn in (1, 2, 3)] == [["yes"]] * 3

        await pair.client.send("x", asks("git status; rm x"))
        await reaches(pair, "x", WAITING)
        denied = await pair.cli("deny", "x", "--message", "not that")
        assert denied.code == 0, denied
        await turn_ends(pair, "x", 4)
        events = await log(pair, "x")
        assert said(events, 4) == ["no"]
        last = resolved(events)[-1].approval_resolved
        assert (last.decision, last.message) == (event_pb2.APPROVAL_DECISION_DENY, "not that")
        check_order(events)
        await pair.kill_all()


async def test_a_rule_that_comes_while_a_call_waits_answers_it(tmp_path: Path) -> None:
    async with running_pair(tmp_path) as pair:
        await start(pair, asks("git log"))
        await reaches(pair, "x", WAITING)
        await restart_all(pair)
        rules = [parse_rule("Bash(git*)", ALLOW), parse_rule("Bash(git push*)", DENY)]
        policy = session_pb2.SessionPolicy(approval_rules=rules)
        await pair.client.update_session("x", policy=policy)
        await turn_ends(pair, "x", 1)
        events = await log(pair, "x")
        check_order(events)
        [decided] = resolved(events)
        told = decided.approval_resolved
        assert (told.by, told.rule.value) == (event_pb2.APPROVAL_DECIDER_RULE, "git")
        assert said(events, 1) == ["yes"]
        await pair.kill_all()


async def test_a_rule_decides_on_the_host_while_control_is_away(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    with gate(tmp_path / "gate") as away:
        async with running_pair(tmp_path) as pair:
            rules = [parse_rule("Bash(git*)", ALLOW), parse_rule("Bash(git push*)", DENY)]
            await start(pair, f"ledger {ledger}; say up", approval_rules=rules)
            await turn_ends(pair, "x", 1)
            both = asks("git log") + "; " + asks("git push origin")
            held = f"ledger {away.path}; ledger {ledger}"
            await pair.client.send("x", f"{held}; {both}; say done")
            # The host has it, and nothing is asked before control is gone.
            await turn_begins(pair, "x", 2)
            await pair.end_control(9)
            away.open()

            async def done() -> bool:
                return '"done"' in ledger.read_text()

            await until(done, "the agent was answered")
            again = time.time()
            await pair.start_control()
            await turn_ends(pair, "x", 2)
            events = await log(pair, "x")
            assert [event.approval_resolved.decision for event in resolved(events)] == [
                event_pb2.APPROVAL_DECISION_ALLOW,
                event_pb2.APPROVAL_DECISION_DENY,
            ]
            assert all(
                event.time.seconds <= again < event.commit_time.seconds + 1
                for event in resolved(events)
            )
            assert said(events, 2) == ["yes", "no", "done"]
            assert WAITING not in {event.phase_changed.to for event in events}
            await pair.kill_all()


async def test_of_twenty_who_answer_at_once_one_wins_and_the_others_are_told(
    tmp_path: Path,
) -> None:
    async with running_pair(tmp_path) as pair:
        await start(pair, asks("make"))
        await reaches(pair, "x", WAITING)
        [approval] = (await pair.client.get_session("x")).open_approvals
        choices = (event_pb2.APPROVAL_DECISION_ALLOW, event_pb2.APPROVAL_DECISION_DENY)

        async def respond(number: int) -> str:
            try:
                answer = await pair.client.respond(
                    "x", approval, choices[number % 2], message=f"said {number}"
                )
            except BridleError as error:
                return str(error.reason)
            receipt = await pair.client.wait(answer.receipt)
            return receipt_pb2.OutcomeState.Name(receipt.outcome.state)

        answers = await asyncio.gather(*(respond(number) for number in range(20)))
        await turn_ends(pair, "x", 1)
        assert answers.count("OUTCOME_STATE_RAN") == 1, answers
        assert set(answers) <= {"OUTCOME_STATE_RAN", "APPROVAL_RESOLVED", "APPROVAL_NOT_FOUND"}
        events = await log(pair, "x")
        [answer] = resolved(events)
        winner = answers.index("OUTCOME_STATE_RAN")
        assert answer.approval_resolved.message == f"said {winner}"
        assert said(events, 1) == [("yes", "no")[winner % 2]]
        await pair.kill_all()


async def test_nobody_in_time_denies_and_an_interrupt_voids_and_both_are_told_as_such(
    tmp_path: Path,
) -> None:
    async with running_pair(tmp_path) as pair:
        await start(pair, asks("make"), approval_timeout=timedelta(seconds=0.2))
        await turn_ends(pair, "x", 1)
        await pair.client.update_session("x", policy=session_pb2.SessionPolicy())
        await pair.client.send("x", asks("make"))
        await reaches(pair, "x", WAITING)
        await pair.client.interrupt("x")
        await turn_ends(pair, "x", 2)
        events = await log(pair, "x")
        late, void = (event.approval_resolved for event in resolved(events))
        assert (late.by, late.decision) == (
            event_pb2.APPROVAL_DECIDER_TIMEOUT,
            event_pb2.APPROVAL_DECISION_DENY,
        )
        assert (void.by, void.decision) == (
            event_pb2.APPROVAL_DECIDER_INTERRUPT,
            event_pb2.APPROVAL_DECISION_VOID,
        )
        assert said(events, 1) == ["no"]
        await pair.kill_all()


async def test_the_command_line_starts_a_session_with_rules(tmp_path: Path) -> None:
    async with running_pair(tmp_path) as pair:
        options = ("--approvals", "deny", "--allow", "Bash(git*)", "--ask", "Bash(git push*)")
        script = f"{asks('rm x')}; {asks('git log')}; {asks('git push')}"
        started = await pair.cli("session", "start", "x", "--agent", "scripted", *options, script)
        assert started.code == 0, started
        await reaches(pair, "x", WAITING)
        assert said(await log(pair, "x"), 1) == ["no", "yes"]
        wider = await pair.cli("approve", "x", "--rule", "Bash(git push*)")
        assert wider.code == 0, wider
        await turn_ends(pair, "x", 1)
        events = await log(pair, "x")
        assert said(events, 1) == ["no", "yes", "yes"]
        assert kinds(events).count("approval_requested") == 3
        wrong = await pair.cli("session", "start", "y", "--agent", "scripted", "--allow", "Bash(")
        assert (wrong.code, "is no rule" in wrong.err) == (2, True)
        await pair.kill_all()


async def test_rules_of_a_live_session_are_added_and_taken_back(tmp_path: Path) -> None:
    async with running_pair(tmp_path) as pair:
        await start(pair, "say up")
        await turn_ends(pair, "x", 1)
        added = await pair.cli("session", "approvals", "x", "--allow", "Bash(git*)", "--wait")
        assert (added.code, added.out) == (0, "RAN DONE\n"), added
        await pair.client.send("x", asks("git log"))
        await turn_ends(pair, "x", 2)
        shown = await pair.cli("session", "approvals", "x")
        assert "ALLOW Bash(git*)" in shown.out
        wrong = await pair.cli("session", "approvals", "x", "--forget", "Bash(gi*)")
        assert (wrong.code, "there is no rule Bash(gi*)" in wrong.err) == (2, True)
        changed = ("--forget", "Bash(git*)", "--approvals", "deny", "--wait")
        assert (await pair.cli("session", "approvals", "x", *changed)).code == 0
        await pair.client.send("x", asks("git log"))
        await turn_ends(pair, "x", 3)
        events = await log(pair, "x")
        assert [said(events, turn) for turn in (2, 3)] == [["yes"], ["no"]]
        by = [event.approval_resolved.by for event in resolved(events)]
        assert by == [event_pb2.APPROVAL_DECIDER_RULE, event_pb2.APPROVAL_DECIDER_POLICY]
        await pair.kill_all()
