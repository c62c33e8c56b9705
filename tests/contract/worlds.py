"""Workspaces in which everything has the same names, in one store, and what that store holds."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from bridle.v1 import content_pb2, event_pb2, input_pb2, receipt_pb2, session_pb2
from bridle_control.ids import uuid7
from bridle_control.store.api import (
    CommandRow,
    HostRow,
    InputRow,
    NewEvent,
    SessionRow,
    Store,
    Tx,
    WorkspaceRow,
)
from bridle_control.tokens import (
    mint_host_credential,
    mint_session_token,
    mint_user_token,
)
from tests.bridle_control.serving import SYSTEM

#: Told in every text of a workspace: nobody of another one may ever read it.
SECRET = "canary-of-{}"


@dataclass(frozen=True)
class World:
    """One workspace: its ids, and the secrets that open it."""

    workspace: str
    user: str
    token_id: str
    host_id: str
    host: str
    session_id: str
    child_id: str
    other_id: str
    agent: str
    command_id: str
    input_id: str

    @property
    def secret(self) -> str:
        """What stands in its texts."""
        return SECRET.format(self.workspace)


async def make_world(store: Store, workspace: str) -> World:
    """The workspace with a host, sessions (fix-auth, its child, another), events and an input."""

    def make(tx: Tx) -> World:
        if tx.workspace(workspace) is None:
            tx.insert_workspace(WorkspaceRow(workspace, tx.now))
        canary = SECRET.format(workspace)
        minted = [
            mint_user_token(
                tx,
                workspace=workspace,
                name=name,
                rights=("*",),
                expire_time=0,
                created_by=SYSTEM,
            )
            for name in ("user", "ci")
        ]
        host_id = uuid7(tx.now)
        tx.insert_host(HostRow(host_id, workspace, "box", tx.now))
        host = mint_host_credential(tx, host_id=host_id, workspace=workspace, name="box")
        rows = [_session(tx, workspace, host_id, slug) for slug in ("fix-auth", "other")]
        child = _session(tx, workspace, host_id, "child", parent=rows[0].session_id)
        for row in (*rows, child):
            message = event_pb2.AgentMessage(content=[content_pb2.Content(text=canary)])
            data = event_pb2.Event(agent_message=message).SerializeToString()
            kind = event_pb2.EVENT_KIND_AGENT_MESSAGE
            tx.append_events(row.session_id, [NewEvent(kind, 1, data)])
        command_id, input_id = uuid7(tx.now), uuid7(tx.now)
        outcome = receipt_pb2.Outcome(state=receipt_pb2.OUTCOME_STATE_PENDING, message=canary)
        tx.insert_command(
            CommandRow(
                command_id=command_id,
                verb=receipt_pb2.VERB_SEND,
                accept_time=tx.now,
                scope=workspace,
                principal_key="1:x",
                session_id=rows[0].session_id,
                run=1,
                host_id=host_id,
                outcome=outcome.SerializeToString(),
            )
        )
        content = input_pb2.Input(content=[content_pb2.Content(text=canary)])
        tx.insert_input(
            InputRow(
                input_id=input_id,
                session_id=rows[0].session_id,
                mode=input_pb2.INPUT_MODE_QUEUE,
                state=input_pb2.INPUT_STATE_WAITING,
                sequence=1,
                command_id=command_id,
                content=content.SerializeToString(),
                create_time=tx.now,
            )
        )
        return World(
            workspace=workspace,
            user=minted[0].secret,
            token_id=minted[1].token_id,
            host_id=host_id,
            host=host.secret,
            session_id=rows[0].session_id,
            child_id=child.session_id,
            other_id=rows[1].session_id,
            agent=mint_session_token(tx, rows[0], 1).secret,
            command_id=command_id,
            input_id=input_id,
        )

    return await store.write(make)


def _session(tx: Tx, workspace: str, host_id: str, slug: str, parent: str = "") -> SessionRow:
    row = SessionRow(
        session_id=uuid7(tx.now),
        workspace=workspace,
        slug=slug,
        agent="shell",
        host_id=host_id,
        phase=session_pb2.PHASE_IDLE,
        run=1,
        create_time=tx.now,
        update_time=tx.now,
        title=SECRET.format(workspace),
        directory="/srv",
        parent_session_id=parent,
    )
    tx.insert_session(row)
    return row


def contents(directory: Path) -> dict[str, list[tuple[object, ...]]]:
    """All rows of a store, by table."""
    [path] = [path for path in directory.iterdir() if path.suffix in (".db", ".sqlite", ".sqlite3")]
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        names = [
            name
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        return {
            name: sorted(connection.execute(f'SELECT * FROM "{name}"').fetchall(), key=repr)
            for name in names
        }
    finally:
        connection.close()
