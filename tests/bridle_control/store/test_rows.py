"""What every store promises of its rows: identity, hosts, sessions, inputs, commands."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bridle.v1 import input_pb2, receipt_pb2, session_pb2
from bridle_control.store.api import (
    ApprovalRow,
    CommandRow,
    CommandState,
    HostRow,
    InputRow,
    JoinTokenRow,
    PageKey,
    SessionBlob,
    Store,
    StoreFaultError,
    Term,
    TokenKind,
    TokenRow,
    Tx,
    WorkspaceRow,
)
from tests.support.stores import MINUTE, a_session, append, begin


def a_token(token_id: str = "t1", **values: object) -> TokenRow:
    row = TokenRow(token_id, token_id.encode(), TokenKind.USER, "default", token_id, ("*",), 5)
    return replace(row, **values)  # type: ignore[arg-type]


def a_host(host_id: str = "h1", **values: object) -> HostRow:
    row = HostRow(host_id, "default", host_id, 5, containment=("CGROUP",))
    return replace(row, **values)  # type: ignore[arg-type]


def an_input(input_id: str, sequence: int, **values: object) -> InputRow:
    row = InputRow(
        input_id,
        "s1",
        sequence,
        b"content",
        input_pb2.INPUT_MODE_QUEUE,
        input_pb2.INPUT_STATE_WAITING,
        5,
    )
    return replace(row, **values)  # type: ignore[arg-type]


def a_command(command_id: str, **values: object) -> CommandRow:
    row = CommandRow(
        command_id, receipt_pb2.VERB_SEND, 5, session_id="s1", host_id="h1", action=b"do"
    )
    return replace(row, **values)  # type: ignore[arg-type]


# ---------------------------------------------------------------- identity


async def test_the_default_workspace_is_always_there(store: Store) -> None:
    await store.write(lambda tx: tx.insert_workspace(WorkspaceRow("team", 7)))
    names = await store.read(lambda tx: [row.name for row in tx.workspaces()])
    assert names == ["default", "team"]
    assert await store.read(lambda tx: tx.workspace("team")) == WorkspaceRow("team", 7)
    assert await store.read(lambda tx: tx.workspace("other")) is None


async def test_a_workspace_is_not_made_twice(store: Store) -> None:
    with pytest.raises(StoreFaultError):
        await store.write(lambda tx: tx.insert_workspace(WorkspaceRow("default", 7)))


async def test_a_token_is_found_by_the_hash_of_its_secret(store: Store) -> None:
    row = a_token(rights=("session.read", "token.*"), created_by=b"me", expire_time=9)
    await store.write(lambda tx: tx.insert_token(row))
    assert await store.read(lambda tx: tx.token_by_hash(b"t1")) == row
    assert await store.read(lambda tx: tx.token("t1")) == row
    assert await store.read(lambda tx: tx.token_by_hash(b"t2")) is None


async def test_a_token_is_revoked_once_and_stays_so(store: Store) -> None:
    def fn(tx: Tx) -> int:
        tx.insert_token(a_token())
        tx.revoke_token("t1")
        return tx.now

    first = await store.write(fn)
    await store.write(lambda tx: tx.revoke_token("t1"))
    row = await store.read(lambda tx: tx.token("t1"))
    assert row is not None
    assert row.revoke_time == first


async def test_tokens_are_listed_by_workspace_kind_and_name(store: Store) -> None:
    def fn(tx: Tx) -> None:
        tx.insert_token(a_token("t2", name="b"))
        tx.insert_token(a_token("t1", name="a"))
        tx.insert_token(a_token("t3", workspace="", name="c"))
        tx.insert_token(a_token("t4", kind=TokenKind.SESSION, session_id="s1", run=1))

    await store.write(fn)
    listed = await store.read(lambda tx: [row.token_id for row in tx.tokens("default")])
    assert listed == ["t1", "t2"]
    assert await store.read(lambda tx: len(tx.tokens(None))) == 3
    (own,) = await store.read(lambda tx: tx.tokens_of_session("s1"))
    assert own.token_id == "t4"
    assert await store.read(lambda tx: tx.tokens_of_session("")) == []


async def test_a_join_token_is_used_by_one_host_alone(store: Store) -> None:
    await store.write(lambda tx: tx.insert_join_token(JoinTokenRow("j1", b"j", "default", 5, 9)))
    assert await store.write(lambda tx: tx.use_join_token("j1", "h1"))
    assert not await store.write(lambda tx: tx.use_join_token("j1", "h2"))
    assert not await store.write(lambda tx: tx.use_join_token("none", "h2"))
    row = await store.read(lambda tx: tx.join_token_by_hash(b"j"))
    assert row is not None
    assert row.host_id == "h1"
    assert row.use_time > 0


# ---------------------------------------------------------------- hosts


async def test_a_host_is_found_by_id_and_name_and_counts_its_live_sessions(store: Store) -> None:
    def fn(tx: Tx) -> None:
        tx.insert_host(a_host(agents=b"agents", session_limit=4))
        tx.insert_session(a_session("s1"))
        tx.insert_session(a_session("s2", phase=session_pb2.PHASE_STOPPED))

    await store.write(fn)
    row = await store.read(lambda tx: tx.host_by_name("default", "h1"))
    assert row == a_host(agents=b"agents", session_limit=4, live_sessions=1)
    assert await store.read(lambda tx: tx.host_by_name("team", "h1")) is None
    assert await store.read(lambda tx: tx.hosts("default")) == [row]
    assert await store.read(lambda tx: tx.hosts(None)) == [row]
    await store.write(lambda tx: tx.update_host(a_host(draining=True, lost=True)))
    row = await store.read(lambda tx: tx.host("h1"))
    assert row is not None
    assert row.draining
    assert row.lost
    live = await store.read(lambda tx: tx.live_sessions_of_host("h1"))
    assert [session.session_id for session in live] == ["s1"]


async def test_two_hosts_of_a_workspace_have_two_names(store: Store) -> None:
    await store.write(lambda tx: tx.insert_host(a_host()))
    with pytest.raises(StoreFaultError):
        await store.write(lambda tx: tx.insert_host(a_host("h2", name="h1")))
    await store.write(lambda tx: tx.insert_host(a_host("h2", name="h1", workspace="team")))


async def test_each_accepted_connection_gets_a_higher_epoch(store: Store) -> None:
    await store.write(lambda tx: tx.insert_host(a_host()))
    assert await store.write(lambda tx: tx.bump_epoch("h1", "a")) == 1
    assert await store.write(lambda tx: tx.bump_epoch("h1", "b")) == 2
    row = await store.read(lambda tx: tx.host("h1"))
    assert row is not None
    assert (row.epoch, row.incarnation) == (2, "b")
    with pytest.raises(StoreFaultError):
        await store.write(lambda tx: tx.bump_epoch("none", "a"))


async def test_a_removed_host_leaves_no_journal_and_no_credential(store: Store) -> None:
    def fn(tx: Tx) -> None:
        tx.insert_host(a_host())
        tx.set_journal("h1", "j", 3)
        tx.insert_token(a_token("c", kind=TokenKind.HOST, host_id="h1"))

    await store.write(fn)
    await store.write(lambda tx: tx.delete_host("h1"))
    assert await store.read(lambda tx: tx.host("h1")) is None
    assert await store.read(lambda tx: tx.journals("h1")) == []
    token = await store.read(lambda tx: tx.token("c"))
    assert token is not None
    assert token.revoke_time > 0


async def test_the_high_water_mark_of_a_journal_never_falls(store: Store) -> None:
    def fn(tx: Tx) -> None:
        tx.insert_host(a_host())
        tx.set_journal("h1", "j1", 3)
        tx.set_journal("h1", "j1", 8)

    await store.write(fn)
    with pytest.raises(StoreFaultError):
        await store.write(lambda tx: tx.set_journal("h1", "j1", 7))
    row = await store.read(lambda tx: tx.journal("h1", "j1"))
    assert row is not None
    assert row.high_water == 8
    assert await store.read(lambda tx: tx.journal("h1", "j2")) is None


# ---------------------------------------------------------------- sessions


async def test_a_session_reads_back_as_it_was_written(store: Store) -> None:
    row = a_session(
        labels={"team": "core", "a/b.c": "ü"},
        policy=b"\x00policy",
        capabilities=("STEER",),
        turn_open=True,
        closing=True,
        verb_state=b"undo",
        title='it\'s "quoted"',
    )
    await begin(store, row)
    assert await store.read(lambda tx: tx.session("s1")) == row
    assert await store.read(lambda tx: tx.session_by_slug("default", "s1")) == row
    assert await store.read(lambda tx: tx.session_by_slug("team", "s1")) is None


async def test_a_slug_is_taken_in_its_workspace_alone(store: Store) -> None:
    await begin(store)
    with pytest.raises(StoreFaultError):
        await begin(store, a_session("s2", slug="s1"))
    await begin(store, a_session("s3", slug="s1", workspace="team"))


async def test_an_update_leaves_alone_what_the_store_keeps_itself(store: Store) -> None:
    await begin(store)
    stale = await store.read(lambda tx: tx.session("s1"))
    assert stale is not None
    await append(store, "s1", "one", "two")
    await store.write(lambda tx: tx.insert_input(an_input("i1", 2)))
    await store.write(lambda tx: tx.update_session(replace(stale, title="new")))
    row = await store.read(lambda tx: tx.session("s1"))
    assert row is not None
    assert (row.title, row.last_sequence, row.inputs_waiting) == ("new", 2, 1)
    with pytest.raises(StoreFaultError):
        await store.write(lambda tx: tx.update_session(a_session("none")))


async def test_a_filter_chooses_sessions(store: Store) -> None:
    await begin(
        store,
        a_session("s1", labels={"team": "core"}),
        a_session("s2", phase=session_pb2.PHASE_STOPPED, agent="scripted"),
        a_session("s3", labels={"team": "web"}, parent_session_id="s1"),
        a_session("s4", workspace="team"),
    )

    async def chosen(*terms: Term) -> list[str]:
        page = await store.read(lambda tx: tx.sessions("default", terms=terms, order="slug"))
        return sorted(row.session_id for row in page.sessions)

    assert await chosen() == ["s1", "s2", "s3"]
    assert await chosen(Term("live", True)) == ["s1", "s3"]
    assert await chosen(Term("live", True, equal=False)) == ["s2"]
    assert await chosen(Term("live", False)) == ["s2"]
    assert await chosen(Term("phase", session_pb2.PHASE_STOPPED)) == ["s2"]
    assert await chosen(Term("agent", "scripted", equal=False)) == ["s1", "s3"]
    assert await chosen(Term("labels", "core", key="team")) == ["s1"]
    assert await chosen(Term("labels", "core", key="team", equal=False)) == ["s2", "s3"]
    assert await chosen(Term("parent_session_id", "s1"), Term("live", True)) == ["s3"]
    with pytest.raises(StoreFaultError):
        await chosen(Term("policy", "x"))
    matches = await store.read(
        lambda tx: [
            tx.session_matches("s1", "default", [Term("live", True)]),
            tx.session_matches("s1", "default", [Term("live", False)]),
            tx.session_matches("s1", "team", []),
            tx.session_matches("none", "default", []),
        ]
    )
    assert matches == [True, False, False, False]


@pytest.mark.parametrize("order", ["slug", "create_time", "update_time"])
@pytest.mark.parametrize("descending", [True, False])
async def test_pages_hold_each_session_once_while_others_come_and_go(
    store: Store, order: str, descending: bool
) -> None:
    # Equal times on purpose: the id decides among them.
    rows = [a_session(f"s{n:02}", create_time=n // 3, update_time=n // 4) for n in range(10)]
    await begin(store, *rows)
    seen: list[str] = []
    after: PageKey | None = None
    while True:
        page = await store.read(
            lambda tx, after=after: tx.sessions(  # type: ignore[misc]
                "default", order=order, descending=descending, after=after, limit=3
            )
        )
        seen += [row.session_id for row in page.sessions]
        if (after := page.next_key) is None:
            break
        # One that was seen goes, and one comes before all that were seen.
        gone, come = page.sessions[0].session_id, "zz" if descending else "00"

        def fn(tx: Tx, gone: str = gone, come: str = come) -> None:
            tx.delete_session(gone, tombstone=False)
            if tx.session(come) is None:
                tx.insert_session(a_session(come, create_time=99 * descending, update_time=99))

        await store.write(fn)
    expected = [row.session_id for row in rows]
    if order == "update_time" and not descending:
        expected.append("00")  # it changed last: it stands at the end, and is seen
    assert [each for each in seen if each != "zz"] == (expected[::-1] if descending else expected)


async def test_a_tree_is_walked_both_ways(store: Store) -> None:
    await begin(
        store,
        a_session("root"),
        a_session("a", parent_session_id="root"),
        a_session("b", parent_session_id="root", phase=session_pb2.PHASE_KILLED),
        a_session("aa", parent_session_id="a"),
        a_session("aaa", parent_session_id="aa"),
        a_session("other"),
    )

    def fn(tx: Tx) -> list[list[str]]:
        return [
            [row.session_id for row in tx.children("root")],
            [row.session_id for row in tx.children("root", live=True)],
            [row.session_id for row in tx.subtree("root")],
            tx.ancestors("aaa"),
            tx.ancestors("root"),
            [row.session_id for row in tx.children("")],
            [row.session_id for row in tx.subtree("")],
        ]

    children, live, subtree, above, none, rootless, forest = await store.write(fn)
    assert (children, live) == (["a", "b"], ["a"])
    assert set(subtree) == {"a", "b", "aa", "aaa"}
    assert subtree.index("aaa") < subtree.index("aa") < subtree.index("a")
    assert above == ["aa", "a", "root"]
    assert none == rootless == forest == []


async def test_a_deleted_session_takes_everything_along_but_its_receipts(store: Store) -> None:
    def fill(tx: Tx) -> None:
        tx.insert_session(a_session())
        tx.insert_input(an_input("i1", 1))
        tx.put_approval(ApprovalRow("s1", "a1", 1, 1, 1))
        tx.put_blob("s1", SessionBlob.DRIVER_STATE, b"state")
        tx.insert_token(a_token("own", kind=TokenKind.SESSION, session_id="s1"))
        tx.insert_command(a_command("c1"))

    await store.write(fill)
    await append(store, "s1", "one")
    await store.write(lambda tx: tx.delete_session("s1"))

    def look(tx: Tx) -> None:
        assert tx.session("s1") is None
        assert tx.bounds("s1") is None
        assert tx.events("s1", 0).framed == ()
        assert tx.input("i1") is None
        assert tx.approval("s1", "a1") is None
        assert tx.blob("s1", SessionBlob.DRIVER_STATE) == b""
        assert tx.command("c1") is not None
        (token,) = tx.tokens_of_session("s1")
        assert token.revoke_time > 0
        tombstone = tx.tombstone("s1")
        assert tombstone is not None
        assert tombstone.slug == "s1"
        # The slug is free, and what comes has a log of its own.
        tx.insert_session(a_session("s2", slug="s1"))
        assert tx.events("s2", 0).framed == ()

    await store.write(look)
    with pytest.raises(StoreFaultError):
        await store.write(lambda tx: tx.delete_session("s1"))


async def test_a_refused_start_leaves_its_receipt_alone(store: Store) -> None:
    def fn(tx: Tx) -> None:
        tx.insert_session(a_session())
        tx.insert_command(a_command("start"))
        tx.insert_command(a_command("deliver"))
        tx.delete_session("s1", tombstone=False)
        tx.delete_commands_of_session("s1", keep="start")
        assert tx.tombstone("s1") is None
        assert tx.command("start") is not None
        assert tx.command("deliver") is None

    await store.write(fn)


async def test_a_blob_is_kept_beside_its_session(store: Store) -> None:
    await begin(store)
    await store.write(lambda tx: tx.put_blob("s1", SessionBlob.LAUNCH, b"one"))
    await store.write(lambda tx: tx.put_blob("s1", SessionBlob.LAUNCH, b"two"))
    assert await store.read(lambda tx: tx.blob("s1", SessionBlob.LAUNCH)) == b"two"
    await store.write(lambda tx: tx.put_blob("s1", SessionBlob.LAUNCH, b""))
    assert await store.read(lambda tx: tx.blob("s1", SessionBlob.LAUNCH)) == b""


# ---------------------------------------------------------------- inputs and approvals


async def test_inputs_stand_in_the_order_of_the_queue(store: Store) -> None:
    await begin(store)

    def fn(tx: Tx) -> None:
        for number in (3, 1, 2):
            tx.insert_input(an_input(f"i{number}", number))
        tx.update_input(
            an_input("i2", 2, state=input_pb2.INPUT_STATE_CONSUMED, turn=4, or_queue=True)
        )

    await store.write(fn)

    async def listed(**options: object) -> list[str]:
        rows = await store.read(lambda tx: tx.inputs("s1", **options))  # type: ignore[arg-type]
        return [row.input_id for row in rows]

    assert await listed() == ["i1", "i2", "i3"]
    assert await listed(descending=True, after=3) == ["i2", "i1"]
    assert await listed(after=1, limit=1) == ["i2"]
    waiting = Term("state", input_pb2.INPUT_STATE_WAITING)
    assert await listed(terms=[waiting]) == ["i1", "i3"]
    with pytest.raises(StoreFaultError):
        await listed(terms=[Term("content", "x")])
    row = await store.read(lambda tx: tx.input("i2"))
    assert row is not None
    assert (row.turn, row.or_queue) == (4, True)
    session = await store.read(lambda tx: tx.session("s1"))
    assert session is not None
    assert session.inputs_waiting == 2


async def test_open_approvals_stand_with_their_session_oldest_first(store: Store) -> None:
    await begin(store)

    def fn(tx: Tx) -> None:
        tx.put_approval(ApprovalRow("s1", "b", 1, 1, 5))
        tx.put_approval(ApprovalRow("s1", "a", 1, 1, 7))
        tx.put_approval(ApprovalRow("s1", "c", 1, 1, 6))
        tx.put_approval(ApprovalRow("s1", "c", 1, 1, 6, decision=1))

    await store.write(fn)
    row = await store.read(lambda tx: tx.session("s1"))
    assert row is not None
    assert row.open_approvals == ("b", "a")
    resolved = await store.read(lambda tx: tx.approval("s1", "c"))
    assert resolved == ApprovalRow("s1", "c", 1, 1, 6, decision=1)


# ---------------------------------------------------------------- commands


async def test_a_command_is_found_by_id_and_by_its_request(store: Store) -> None:
    row = a_command(
        "c1",
        scope="default",
        principal_key="user:t1",
        request_id="r1",
        request_hash=b"hash",
        outcome=b"outcome",
        error_metadata={"directory": "/x"},
        resource="t9",
    )
    stored = await store.write(lambda tx: tx.insert_command(row))
    assert stored == replace(row, position=stored.position)
    assert await store.read(lambda tx: tx.command("c1")) == stored
    found = await store.read(lambda tx: tx.command_by_request("default", "user:t1", "r1"))
    assert found == stored
    assert await store.read(lambda tx: tx.command_by_request("", "user:t1", "r1")) is None
    with pytest.raises(StoreFaultError):
        await store.write(lambda tx: tx.insert_command(replace(row, command_id="c2")))
    # Those without a request id don't stand in each other's way.
    await store.write(lambda tx: tx.insert_command(a_command("c3")))
    await store.write(lambda tx: tx.insert_command(a_command("c4")))
    assert await store.read(lambda tx: tx.command_by_request("", "", "")) is None


async def test_commands_go_to_their_host_in_the_order_of_commits(store: Store) -> None:
    def fn(tx: Tx) -> list[int]:
        rows = [
            a_command("c1"),
            a_command("c2", state=CommandState.HANDED),
            a_command("c3", state=CommandState.ANSWERED),
            a_command("c4", state=CommandState.DONE),
            a_command("c5", action=b""),
            a_command("c6", host_id="h2"),
            a_command("c7"),
        ]
        return [tx.insert_command(row).position for row in rows]

    positions = await store.write(fn)
    assert positions == sorted(positions)

    async def sent(**options: int) -> list[str]:
        rows = await store.read(lambda tx: tx.commands_to_send("h1", **options))
        return [row.command_id for row in rows]

    assert await sent() == ["c1", "c2", "c7"]
    assert await sent(limit=2) == ["c1", "c2"]
    assert await sent(after=positions[1]) == ["c7"]
    open_ones = await store.read(lambda tx: [row.command_id for row in tx.open_commands("s1")])
    assert open_ones == ["c1", "c2", "c3", "c5", "c6", "c7"]
    of_host = await store.read(
        lambda tx: [row.command_id for row in tx.open_commands_of_host("h2")]
    )
    assert of_host == ["c6"]


async def test_commands_whose_time_is_over_are_found_soonest_first(store: Store) -> None:
    def fn(tx: Tx) -> None:
        tx.insert_command(a_command("c1", expire_time=30))
        tx.insert_command(a_command("c2", expire_time=20))
        tx.insert_command(a_command("c3", expire_time=10, state=CommandState.ANSWERED))
        tx.insert_command(a_command("c4"))
        # A host may have this one and may have begun a turn with it: only the host can end it.
        tx.insert_command(a_command("c5", expire_time=5, state=CommandState.HANDED, input_id="i1"))

    await store.write(fn)
    assert await store.read(lambda tx: tx.next_command_expiry()) == 20
    expired = await store.read(lambda tx: [row.command_id for row in tx.commands_expired(30)])
    assert expired == ["c2", "c1"]
    assert await store.read(lambda tx: tx.commands_expired(19)) == []
    row = await store.read(lambda tx: tx.command("c2"))
    assert row is not None
    await store.write(lambda tx: tx.update_command(replace(row, state=CommandState.DONE)))
    assert await store.read(lambda tx: tx.next_command_expiry()) == 30


async def test_the_commands_of_a_tree_are_found_by_their_parent(store: Store) -> None:
    def fn(tx: Tx) -> list[str]:
        tx.insert_command(a_command("top"))
        tx.insert_command(a_command("c2", parent_command_id="top"))
        tx.insert_command(a_command("c1", parent_command_id="top"))
        return [row.command_id for row in tx.child_commands("top")]

    assert await store.write(fn) == ["c2", "c1"]
    assert await store.read(lambda tx: tx.child_commands("")) == []


async def test_receipts_and_tombstones_and_dead_tokens_go_when_their_time_is_over(
    store: Store,
) -> None:
    def fill(tx: Tx) -> int:
        for number in range(3):
            tx.insert_command(
                a_command(f"done{number}", accept_time=tx.now, state=CommandState.DONE)
            )
        tx.insert_command(a_command("open", accept_time=tx.now))
        tx.insert_session(a_session())
        tx.delete_session("s1")
        tx.insert_token(a_token("own", kind=TokenKind.SESSION, expire_time=tx.now))
        tx.insert_token(a_token("mine", expire_time=tx.now))
        tx.insert_join_token(JoinTokenRow("j1", b"j", "default", 5, tx.now))
        return tx.now

    now = await store.write(fill)

    def purge(tx: Tx, before: int) -> list[int]:
        return [
            tx.purge_commands(before, 2),
            tx.purge_commands(before, 2),
            tx.purge_tombstones(before, 9),
            tx.purge_tokens(before, 9),
        ]

    assert await store.write(lambda tx: purge(tx, now)) == [0, 0, 0, 0]
    assert await store.write(lambda tx: purge(tx, now + MINUTE)) == [2, 1, 1, 2]
    assert await store.read(lambda tx: tx.command("open")) is not None
    assert await store.read(lambda tx: tx.token("mine")) is not None
    assert await store.read(lambda tx: tx.tombstone("s1")) is None
