"""What waits for an actor: bounded, commands before observations, news behind them."""

from __future__ import annotations

import asyncio

from bridle_core.commands import Kill, Release, Stop
from bridle_core.observations import (
    Message,
    MessageText,
    Note,
    NoteKind,
    Observation,
    StopReason,
    Text,
    Thought,
    ToolOutput,
    TurnBegan,
    TurnOver,
)
from bridle_host.inbox import (
    BATCH,
    BYTES,
    COMMANDS,
    OBSERVATIONS,
    Broken,
    Gone,
    Group,
    Inbox,
    Queued,
)
from tests.bridle_host.journal_support import settle

SMALL: Observation = Note(NoteKind.AGENT_LOG, "x")


async def test_commands_are_taken_all_at_once_in_order() -> None:
    inbox = Inbox()
    assert await inbox.put_command(Queued(Release("a")))
    inbox.put_own(Kill())
    assert [type(queued.command) for queued in inbox.commands()] == [Release, Kill]
    assert inbox.commands() == []


async def test_commands_wait_for_room_and_the_hosts_own_do_not() -> None:
    inbox = Inbox()
    for number in range(COMMANDS):
        await inbox.put_command(Queued(Release(str(number))))
    inbox.put_own(Stop())
    async with asyncio.TaskGroup() as group:
        late = group.create_task(inbox.put_command(Queued(Release("late"))))
        await settle()
        assert not late.done()
        assert len(inbox.commands()) == COMMANDS + 1
    assert late.result()
    assert inbox.has("late")


async def test_a_command_is_had_until_what_was_taken_with_it_is_done() -> None:
    inbox = Inbox()
    await inbox.put_command(Queued(Release("a")))
    inbox.commands()
    # Its answer is on its way into the journal, which may have no room yet.
    assert inbox.has("a")
    inbox.commands()
    assert not inbox.has("a")


async def test_whoever_waits_is_told_when_nobody_reads_any_more() -> None:
    inbox = Inbox()
    for number in range(COMMANDS):
        await inbox.put_command(Queued(Release(str(number))))
    async with asyncio.TaskGroup() as group:
        late = group.create_task(inbox.put_command(Queued(Release("late"))))
        await settle()
        inbox.close()
    assert not late.result()
    assert not await inbox.put_command(Queued(Release("later")))


async def test_a_command_that_waits_can_be_withdrawn() -> None:
    inbox = Inbox()
    await inbox.put_command(Queued(Release("a")))
    await inbox.put_command(Queued(Release("b")))
    assert not inbox.withdraw("c")
    assert inbox.withdraw("b")
    assert [queued.expires for queued in inbox.commands()] == [None, 0.0]


async def test_observations_come_in_batches() -> None:
    inbox = Inbox()
    for _ in range(OBSERVATIONS):
        await inbox.put_group((SMALL,))
    assert len(inbox.groups()) == BATCH
    assert inbox.ready()


async def test_what_moves_a_life_on_is_taken_up_to_what_an_agent_can_tell_without_end() -> None:
    inbox = Inbox()
    for observation in (TurnBegan(1), SMALL, TurnOver(StopReason.COMPLETED)):
        await inbox.put_group((observation,))
    inbox.put_news(Gone(0))
    assert inbox.ready(bulk=False)
    assert inbox.groups(bulk=False) == [(TurnBegan(1),)]
    assert not inbox.ready(bulk=False)
    assert inbox.groups(bulk=False) == []
    assert len(inbox.groups()) == 2
    assert inbox.ready(bulk=False)


async def test_a_group_is_taken_whole_and_waits_if_any_of_it_does() -> None:
    inbox = Inbox()
    begins = (TurnBegan(1),)
    ends = (SMALL, TurnOver(StopReason.COMPLETED))
    await inbox.put_group(begins)
    await inbox.put_group(ends)
    assert inbox.groups(bulk=False) == [begins]
    assert not inbox.ready(bulk=False)
    assert inbox.groups() == [ends]


async def test_too_many_observations_wait() -> None:
    inbox = Inbox()
    for _ in range(OBSERVATIONS):
        await inbox.put_group((SMALL,))
    async with asyncio.TaskGroup() as group:
        late = group.create_task(inbox.put_group((SMALL,)))
        await settle()
        assert not late.done()
        inbox.groups()
    assert late.done()


async def test_large_observations_wait_and_are_taken_in_small_batches() -> None:
    half = BYTES // 2
    large: list[Observation] = [
        ToolOutput("t", b"x" * half),
        Thought("m", "x" * half),
        MessageText("m", "x" * half),
        Message("m", (Text("x" * half),)),
    ]
    inbox = Inbox()

    async def fill() -> None:
        for observation in large:
            await inbox.put_group((observation,))

    async with asyncio.TaskGroup() as group:
        filling = group.create_task(fill())
        await settle()
        assert not filling.done()
        taken: list[Group] = []
        while len(taken) < 4:
            batch = inbox.groups()
            assert len(batch) == 1
            taken += batch
            await settle()
    assert taken == [(observation,) for observation in large]


async def test_news_stand_behind_the_observations_before_them() -> None:
    inbox = Inbox()
    await inbox.put_group((SMALL,))
    inbox.put_news(Gone(1))
    inbox.put_news(Broken("x"))
    assert inbox.news() is None
    inbox.groups()
    assert inbox.ready()
    assert [inbox.news(), inbox.news(), inbox.news()] == [Gone(1), Broken("x"), None]
    assert not inbox.ready()
