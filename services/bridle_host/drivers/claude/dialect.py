"""Claude Code's protocol as pure functions: see `bridle_host.drivers.lines.dialect.Dialect`.

Puts together what `wire` reads and `turns`, `messages`, `tools` and `notes` make of it; here stand
the orders, the approvals and which line is whose. Made for each process by `factory`.

Interrupts: the agent is asked to end the turn and to cancel what waits behind it, by its uuid or at
all, because what was steered must not begin afterwards, and what waits for a turn of its own must.
The background tasks that the turn began are stopped too; sub-agents among them are mute from then
on, whatever they still say. A turn's end comes when the agent has told all of it, so nothing has to
be waited for behind it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence

from bridle_core import values
from bridle_core.observations import (
    ApprovalAsked,
    ApprovalWithdrawn,
    Content,
    Decision,
    KeepState,
    Note,
    NoteKind,
)
from bridle_host.drivers.claude import launch, messages, notes, tools, wire
from bridle_host.drivers.claude.state import (
    MUTED_BYTES,
    QUESTION_BYTES,
    Kept,
    Question,
    State,
    newest,
)
from bridle_host.drivers.claude.turns import Turns
from bridle_host.drivers.claude.wire import Fields
from bridle_host.drivers.lines.dialect import (
    LONGEST_LINE,
    Beginning,
    Launch,
    Order,
    Ready,
    Refused,
    Said,
    UnreadableError,
)

#: Tool results hold whole files and pictures.
LINE = LONGEST_LINE

#: What names an approval, in characters: longer ones can't be answered.
APPROVAL_ID = 128

HELLO = "hello"
#: The tool by which the agent asks its user; the answer is a part of the call's arguments.
_ASK = "AskUserQuestion"

#: Lines that stand beside others that say the same, or are for a terminal only.
_SILENT = frozenset(
    {"keep_alive", "prompt_suggestion", "tool_progress", "tool_use_summary", "transcript_mirror"}
)


class ClaudeDialect:
    """See `Dialect`. program: the command line, without what the protocol adds."""

    line_limit = LINE
    # The end of a turn is the last that is said of it, and turns of its own say that they begin.
    quiet = 0.0
    quiet_limit = 0.0
    seedable = True
    #: The begin of any turn, and the words of a sub-agent that has outlived its own.
    unasked = (b'"subtype":"init"', b'"state":"started"', b'"agent_id":"')

    def __init__(
        self, program: tuple[str, ...], beginning: Beginning, standing: bytes | None
    ) -> None:
        """Raises ValueError with a line for people."""
        conversation, kept = launch.conversation_of(beginning)
        self._launch = launch.launch(program, conversation, native=beginning.native)
        self._session, self._run = beginning.session_id, beginning.run
        self._native = beginning.native
        self._state = values.load(State, standing) if standing else State()
        state = self._state
        if not standing:
            state.conversation = conversation
            if beginning.native:
                state.kept = conversation
            if kept is not None and kept.run == beginning.run:
                state.used = kept.used  # by a process that this one takes the place of
        self._turns = Turns(state)
        self._readers: Mapping[str, Callable[[Fields], Iterable[Said]]] = {
            "assistant": self._assistant,
            "command_lifecycle": self._lifecycle,
            "control_cancel_request": self._withdrawn,
            "control_request": self._asked,
            "control_response": self._answered,
            "rate_limit_event": _rate_limit,
            "result": self._result,
            "stream_event": self._streamed,
            "system": self._system,
            "user": self._user,
        }

    @property
    def conversation(self) -> str:
        return self._state.conversation

    def launch(self) -> Launch:
        return self._launch

    def standing(self) -> bytes:
        return values.dump(self._state).encode()

    # Orders.

    def greet(self) -> Iterable[Order]:
        return (Order(HELLO, wire.request(HELLO, "initialize", hooks=None)),)

    def begin(self, turn: int, content: Sequence[Content]) -> Iterable[Order]:
        uuid = launch.name_of(self._session, self._run, "turn", turn)
        self._turns.ask(turn, uuid)
        return (Order(f"turn-{turn}", wire.user(uuid, "later", content)),)

    def steer(self, turn: str, input_id: str, content: Sequence[Content]) -> Iterable[Order]:
        uuid = launch.name_of(self._session, self._run, turn, "steer", input_id)
        self._turns.steer(input_id, uuid)
        return (Order(f"steer-{turn}-{input_id}", wire.user(uuid, "next", content)),)

    def interrupt(self, turn: str, *, include_background: bool) -> Iterable[Order]:
        state, now = self._state, self._state.open
        if now is None:
            return ()
        now.interrupted = True
        ours = [task for task in state.tasks if task.turn == now.name]
        new = [task.tool for task in ours if task.tool and task.tool not in state.muted]
        state.muted = newest((*state.muted, *new), MUTED_BYTES)
        ended = [task for task in state.tasks if include_background] or ours
        key = f"interrupt-{turn}"
        orders = [
            _request(f"{key}-task-{task.task_id}", "stop_task", task_id=task.task_id)
            for task in ended
            if task.background
        ]
        if state.asked is None:
            return (*orders, _request(key, "interrupt", cancel_queued=True))
        # A turn of its own is on, and behind it waits what was asked for: that goes on.
        orders += [
            _request(f"{key}-{steer.uuid}", "cancel_async_message", message_uuid=steer.uuid)
            for steer in now.steers
        ]
        return (*orders, _request(key, "interrupt"))

    def respond(
        self, turn: str, approval_id: str, decision: Decision, message: str
    ) -> Iterable[Order]:
        state = self._state
        question = next((one for one in state.questions if one.approval_id == approval_id), None)
        state.questions = tuple(one for one in state.questions if one is not question)
        if decision is Decision.VOID:
            return ()
        answer: dict[str, object] = {"behavior": "deny", "message": message or "denied"}
        if decision is not Decision.DENY:
            answer = {"behavior": "allow"}
            if question is not None and message:
                answer["updatedInput"] = _replied(question, message)
        key = f"respond-{turn}-{approval_id}"
        return (Order(key, wire.response(approval_id, answer)),)

    def stop(self) -> Iterable[Order]:
        return ()  # the end of its input is the end of it

    # What the agent says.

    def read(self, line: bytes) -> Iterable[Said]:
        fields = wire.parse(line)
        kind = fields.name("type", "")
        if kind in _SILENT:
            return ()
        reader = self._readers.get(kind)
        if reader is None:
            raise UnreadableError("it is of no known type")
        return reader(fields)

    def _answered(self, fields: Fields) -> Iterable[Said]:
        """To us; or, said back, by us."""
        answer, state = fields.object("response"), self._state
        if answer.maybe_text("request_id") != HELLO or state.ready:
            return ()
        if answer.maybe_text("subtype") == "error":
            return (self._refuse(answer.maybe_text("error")),)
        version = answer.object("response").name("claude_code_version", "")
        if (why := launch.too_old(version)) != "":
            return (self._refuse(why),)
        state.ready = True
        return (Ready(version, resumed=self._native),)

    def _refuse(self, why: str) -> Refused:
        self._state.refused = True
        return Refused(why[: notes.SHOWN] or "it says no more than that")

    def _lifecycle(self, fields: Fields) -> Iterable[Said]:
        return self._begun(self._turns.lifecycle(fields.name("command_uuid"), fields.name("state")))

    def _begun(self, said: list[Said]) -> Iterable[Said]:
        """A conversation with a turn in it is one that can be taken up again."""
        state = self._state
        if state.open is not None and state.kept != state.conversation:
            said.append(self._keep())
        return said

    def _keep(self) -> KeepState:
        state = self._state
        state.kept = state.conversation
        return KeepState(values.dump(Kept(state.conversation, self._run, state.used)).encode())

    def _system(self, fields: Fields) -> Iterable[Said]:
        subtype, state = fields.name("subtype"), self._state
        match subtype:
            case "init":
                conversation = fields.name("session_id")
                if launch.is_name(conversation):  # a `/clear` begins another
                    state.conversation = conversation
                return self._begun(self._turns.began())
            case "session_state_changed":
                return self._turns.idle() if fields.name("state") == "idle" else ()
            case "task_started":
                notes.task_started(fields, state)
                return ()
            case "task_notification":
                return notes.task_over(fields, state)
        if subtype in notes.SILENT:
            return ()
        if subtype in notes.NOTICES:
            return notes.notice(fields)
        raise UnreadableError("it is a system line of no known kind")

    def _streamed(self, fields: Fields) -> Iterable[Said]:
        if fields.name("parent_tool_use_id", ""):
            return ()  # a sub-agent's words come whole, too
        return messages.streamed(fields, self._state)

    def _assistant(self, fields: Fields) -> Iterable[Said]:
        state, parent = self._state, fields.name("parent_tool_use_id", "")
        if parent in state.muted or fields.flag("is_api_error_message"):
            return ()  # of an error the end of the turn tells
        # A sub-agent may outlive its turn. The agent itself begins one with `init`.
        said: list[Said] = self._turns.began() if parent else []
        for number, block in enumerate(fields.object("message").objects("content")):
            kind = block.name("type")
            if kind == "text":
                said += messages.said(fields, block, number, state)
            elif kind == "thinking":
                said += messages.thought(fields, block, number, state)
            elif kind.endswith("tool_use"):
                said += tools.started(fields, block, state)
            elif kind.endswith("tool_result"):
                said += tools.served(block)
            elif kind != "redacted_thinking":
                said.append(Note(NoteKind.UNPARSED, f"a block of no known type: {kind}"))
        return said

    def _user(self, fields: Fields) -> Iterable[Said]:
        """What the model is told: results of tools, and prompts, which are known."""
        content = fields.object("message").raw("content")
        if fields.flag("isReplay") or isinstance(content, str):
            return ()
        if fields.name("parent_tool_use_id", "") in self._state.muted:
            return ()
        said: list[Said] = []
        for block in fields.object("message").objects("content"):
            if block.name("type") == "tool_result":
                said += tools.ended(fields, block, self._state)
        return said

    def _result(self, fields: Fields) -> Iterable[Said]:
        state, ending = self._state, notes.ending(fields)
        if not state.ready:
            # A conversation that can't be taken up is told as the result of nothing.
            return () if state.refused else (self._refuse(ending.message),)
        said: list[Said] = list(notes.usage(fields, state))
        if said and state.kept:
            said.append(self._keep())
        return [*said, *self._turns.result(ending)]

    # Approvals.

    def _asked(self, fields: Fields) -> Iterable[Said]:
        asked, name = fields.object("request"), fields.name("request_id")
        if asked.name("subtype") != "can_use_tool" or len(name) > APPROVAL_ID:
            return (Order(f"refuse-{name}", wire.refusal(name, "Bridle does not serve this")),)
        state, agent = self._state, asked.name("agent_id", "")
        task = next((one for one in state.tasks if one.task_id == agent), None)
        said: list[Said] = []
        if state.open is None and agent and not (task and task.tool in state.muted):
            said += self._turns.began()  # of a sub-agent that has outlived its turn
        if state.open is None or (task is not None and task.tool in state.muted):
            answer = {"behavior": "deny", "message": "the turn is over"}
            return (Order(f"late-{name}", wire.response(name, answer)),)
        tool, arguments = asked.name("tool_name"), asked.object("input").json()
        if tool == _ASK:
            state.questions = newest((*state.questions, Question(name, arguments)), QUESTION_BYTES)
        call = asked.name("tool_use_id", "")
        said.append(ApprovalAsked(name, tool, arguments, _reason(asked), call))
        return said

    def _withdrawn(self, fields: Fields) -> Iterable[Said]:
        return (ApprovalWithdrawn(fields.name("request_id")),)


def _request(key: str, subtype: str, **fields: object) -> Order:
    return Order(key, wire.request(key, subtype, **fields))


def _reason(asked: Fields) -> str:
    why, path = asked.maybe_text("decision_reason"), asked.maybe_text("blocked_path")
    if path:
        why = f"{why}: {path}" if why else f"it reaches {path}"
    return (why or asked.maybe_text("description"))[: notes.SHOWN]


def _replied(question: Question, message: str) -> dict[str, object]:
    """The call's arguments with the user's answers: a line for each question, or one for all."""
    arguments: dict[str, object] = json.loads(question.arguments)
    asked = [one.maybe_text("question") for one in Fields(arguments).objects("questions")]
    lines = message.splitlines()
    each = lines if len(lines) == len(asked) else [message] * len(asked)
    return {**arguments, "answers": dict(zip(asked, each, strict=True))}


def _rate_limit(fields: Fields) -> Iterable[Said]:
    told = fields.maybe_object("rate_limit_info")
    status = told.maybe_text("status")
    if status in ("", "allowed"):
        return ()
    return (notes.note(f"rate limit: {status} {told.maybe_text('rateLimitType')}".rstrip()),)
