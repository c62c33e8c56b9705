"""Codex's protocol as pure functions over its lines.

The ids of our requests are the keys of the orders that carry them, so an answer says by itself what
it answers, and an order that is given again is the same one. Codex does not look whether it has had
a message before: that an order is written once is the driver's care. Made by the factory for each
process; used by `LineDriver`.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from bridle_core.observations import (
    ApprovalWithdrawn,
    Content,
    Decision,
    Image,
    Note,
    NoteKind,
    Text,
)
from bridle_core.version import VERSION
from bridle_host.drivers.codex import asks, items, launch, notices, rpc
from bridle_host.drivers.codex.course import Course, interrupt_of
from bridle_host.drivers.codex.rpc import Fields
from bridle_host.drivers.codex.standing import OPEN, TOLD, Ask, Kept, Standing
from bridle_host.drivers.lines.dialect import (
    Beginning,
    Launch,
    Order,
    Ready,
    Refused,
    Said,
    UnreadableError,
)

#: Pictures come in a line, and so does what a command put out (a mebibyte at the most, of which
#: JSON may make six). Far below what the shim holds back of an agent's output.
LINE = 8 * 1024 * 1024
#: Notes of what the agent told before it was up.
EARLY = 8
#: How often an interrupt is said again that the agent says it has no turn for.
RETRIES = 3


class CodexDialect:
    """See `Dialect`."""

    line_limit = LINE
    quiet = 0.0
    quiet_limit = 0.0
    seedable = True
    #: It may go on by itself, when it was given a goal.
    unasked = b'"turn/started"'

    def __init__(
        self, command: launch.Command, beginning: Beginning, standing: bytes | None
    ) -> None:
        """Raises ValueError with a line for people."""
        kept = Kept.load(beginning.kept) if beginning.kept else None
        if beginning.native and kept is None:
            raise ValueError("there is no conversation to take up again")
        self._command = command
        self._beginning = beginning
        self._resumes = kept.thread if beginning.native and kept is not None else ""
        now = Standing.load(standing or b"")
        if not standing and kept is not None and kept.run == beginning.run:
            now = replace(now, spent=kept.usage, kept=kept.usage)
        self._course = Course(now, beginning.run)
        self._readers = self._all_readers()

    @property
    def conversation(self) -> str:
        return self._course.now.thread or self._resumes

    # --- what is ordered ---

    def launch(self) -> Launch:
        return launch.launch(self._command, self._beginning.environment)

    def greet(self) -> Iterable[Order]:
        params = {
            "clientInfo": {"name": "bridle", "title": "Bridle", "version": VERSION},
            "capabilities": {
                # Without it the commands that an interrupt leaves behind can't be ended.
                "experimentalApi": True,
                "requestAttestation": False,
                "optOutNotificationMethods": list(notices.UNWANTED),
            },
        }
        yield Order("initialize", rpc.request("initialize", "initialize", params))

    def begin(self, turn: int, content: Sequence[Content]) -> Iterable[Order]:
        if self._course.now.asked != turn:
            self._course.set(asked=turn, answered="", refused="")
        name = f"turn-{turn}"
        params = {
            "threadId": self._course.now.thread,
            "clientUserMessageId": self._course.message_name(name),
            "input": [_input(piece) for piece in content],
        }
        return (Order(name, rpc.request(name, "turn/start", params)),)

    def steer(self, turn: str, input_id: str, content: Sequence[Content]) -> Iterable[Order]:
        now = self._course.now
        if not now.turn:
            return ()
        name = f"steer-{input_id}"
        return (self._steering(name, now.thread, now.turn, [_input(piece) for piece in content]),)

    def interrupt(self, turn: str, *, include_background: bool) -> Iterable[Order]:
        now = self._course.now
        if not now.turn:
            return ()
        running = (call.id for call in now.calls if call.kind == items.COMMAND and not call.sub)
        self._course.set(interrupting=turn, leftover=tuple(running)[-OPEN:])
        orders = [self._interruption(turn, f"interrupt-{turn}")]
        subs = [sub for sub in now.subs if include_background or sub.born == now.turn]
        orders += [interrupt_of(sub.thread, sub.turn) for sub in subs]
        if not include_background:
            # Which of them are this turn's, the answer tells; those of earlier turns live on.
            orders.append(self._terminals(now.thread, "list", f"terminals-{turn}"))
        else:
            threads = dict.fromkeys((now.thread, *(sub.thread for sub in subs)))
            for thread in threads:
                orders.append(self._terminals(thread, "clean", f"clean-{turn}-{thread}"))
        return orders

    def respond(
        self, turn: str, approval_id: str, decision: Decision, message: str
    ) -> Iterable[Order]:
        ask = self._ask(approval_id)
        if ask is None:
            return ()
        now, denied = self._course.now, decision not in (Decision.ALLOW, Decision.ALLOW_ALWAYS)
        answered = replace(ask, answered=True)
        self._course.set(
            asks=tuple(answered if one is ask else one for one in now.asks),
            calls=tuple(
                replace(call, denied=denied) if call.id == ask.call else call for call in now.calls
            ),
        )
        orders = [Order(f"respond-{ask.id}", asks.answered(ask, decision, message))]
        if decision is Decision.DENY and message and ask.turn:
            # Codex's answer has no room for a reason; so the agent is told of it as of a word in
            # between. Where the turn ends before, it is not wanted any more.
            said = {"type": "text", "text": f"Denied: {message}", "text_elements": []}
            orders.append(self._steering(f"deny-{ask.id}", ask.thread, ask.turn, [said]))
        return orders

    def stop(self) -> Iterable[Order]:
        # It ends when its input does.
        return ()

    def standing(self) -> bytes:
        return self._course.now.dump()

    def _steering(
        self, name: str, thread: str, turn: str, content: Sequence[Mapping[str, object]]
    ) -> Order:
        params = {
            "threadId": thread,
            "expectedTurnId": turn,
            "clientUserMessageId": self._course.message_name(name),
            "input": content,
        }
        return Order(name, rpc.request(name, "turn/steer", params))

    def _interruption(self, turn: str, name: str) -> Order:
        params = {"threadId": self._course.now.thread, "turnId": self._course.now.turn}
        return Order(name, rpc.request(name, "turn/interrupt", params))

    def _terminals(self, thread: str, verb: str, name: str) -> Order:
        method = f"thread/backgroundTerminals/{verb}"
        return Order(name, rpc.request(name, method, {"threadId": thread}))

    # --- what is said ---

    def read(self, line: bytes) -> Iterable[Said]:
        before = self._course.now
        try:
            match rpc.parse(line):
                case rpc.Answer() as answer:
                    return list(self._answered(answer))
                case rpc.Request() as request:
                    return list(self._requested(request))
                case rpc.Notice(method, params):
                    return list(self._told(method, params))
        except UnreadableError:
            self._course.now = before
            raise

    def _answered(self, answer: rpc.Answer) -> Iterator[Said]:
        name = str(answer.id)
        what, _, which = name.partition("-")
        if name == "initialize":
            yield from self._initialized(answer)
        elif name == "thread":
            yield from self._ready(answer)
        elif what == "turn" and which.isdecimal():
            yield from self._course.turn_answered(int(which), answer)
        elif what == "interrupt" and answer.code == rpc.INVALID_REQUEST:
            yield from self._interrupt_again(which)
        elif what == "terminals" and answer.error is None:
            yield from self._terminate(Fields(answer.result, "result"))

    def _initialized(self, answer: rpc.Answer) -> Iterator[Said]:
        if answer.error is not None:
            yield Refused(f"codex: {answer.error}")
            return
        # "bridle/0.169.0 (Debian 12.0.0; x86_64) …": our name, its version.
        agent = Fields(answer.result, "result").text("userAgent").partition(" ")[0]
        self._course.set(version=agent.rpartition("/")[2][: rpc.NAME])
        yield Order("initialized", rpc.notice("initialized"))
        params = launch.thread(self._command, self._beginning.directory)
        if self._resumes:
            params |= {"threadId": self._resumes, "excludeTurns": True}
        method = "thread/resume" if self._resumes else "thread/start"
        yield Order("thread", rpc.request("thread", method, params))

    def _ready(self, answer: rpc.Answer) -> Iterator[Said]:
        if answer.error is not None:
            yield Refused(f"codex: {answer.error}")
            return
        result = Fields(answer.result, "result")
        thread = result.inner("thread").id("id")
        self._course.set(thread=thread, model=result.name("model"))
        yield Ready(self._course.now.version, resumed=thread == self._resumes)
        early = self._course.now.early
        self._course.set(early=())
        for text in early:
            yield Note(NoteKind.AGENT_LOG, text)

    def _interrupt_again(self, which: str) -> Iterator[Said]:
        """It had no turn to interrupt, while we know of one that it has begun and not ended."""
        now = self._course.now
        name = which.partition(".")[0]
        if now.interrupting == name and now.retries < RETRIES:
            self._course.set(retries=now.retries + 1)
            yield self._interruption(name, f"interrupt-{name}.{now.retries + 1}")

    def _terminate(self, result: Fields) -> Iterator[Said]:
        for terminal in result.each("data"):
            if terminal.name("itemId") in self._course.now.leftover:
                process = terminal.id("processId")
                name = f"terminate-{terminal.name('itemId')}-{process}"
                params = {"threadId": self._course.now.thread, "processId": process}
                method = "thread/backgroundTerminals/terminate"
                yield Order(name, rpc.request(name, method, params))

    def _requested(self, request: rpc.Request) -> Iterator[Said]:
        if request.method not in asks.KINDS:
            yield Order(f"refuse-{request.id}", rpc.refusal(request.id, asks.NOT_OURS))
            yield Note(NoteKind.AGENT_LOG, f"codex asked for {request.method}: {asks.NOT_OURS}")
            return
        course, params = self._course, request.params
        asked = asks.asked(self._approval_name(request.id), request, course.now.calls)
        of_nobody = not params.name("turnId")
        fits = bool(course.now.turn) and (of_nobody or course.whose(params) is not None)
        fits = fits and not course.now.interrupting and len(course.now.asks) < OPEN
        if isinstance(asked, asks.Asked) and fits and self._ask(asked.ask.id) is None:
            course.set(asks=(*course.now.asks, asked.ask))
            yield asked.approval
            return
        yield Order(f"refuse-{request.id}", asks.denied(request))
        if isinstance(asked, str):
            yield Note(NoteKind.AGENT_LOG, asked)

    def _ask(self, approval_id: str) -> Ask | None:
        return next((ask for ask in self._course.now.asks if ask.id == approval_id), None)

    def _approval_name(self, given: rpc.RequestId) -> str:
        """In the session: requests are numbered in each process anew."""
        number = given if isinstance(given, int) else f"x{zlib.crc32(given.encode()):08x}"
        return f"{self._beginning.run}-{self._beginning.serial}-{number}"

    def _resolved(self, params: Fields) -> Iterator[Said]:
        name = json.dumps(params.raw("requestId"))
        ask = next((ask for ask in self._course.now.asks if ask.request == name), None)
        if ask is not None:
            self._course.set(asks=tuple(one for one in self._course.now.asks if one is not ask))
            if not ask.answered:
                yield ApprovalWithdrawn(ask.id)

    def _told(self, method: str, params: Fields) -> Iterator[Said]:
        reader = self._readers.get(method)
        if reader is not None:
            yield from reader(params)
        elif not notices.is_noise(method):
            text = notices.text_of(method, params)
            if text is None:
                raise UnreadableError(f"{method!r} is not known")
            if text:
                yield from self._note(text, once=method != "error")

    def _all_readers(self) -> Mapping[str, Callable[[Fields], Iterator[Said]]]:
        course = self._course
        return {
            "item/agentMessage/delta": course.message_delta,
            "item/commandExecution/outputDelta": course.output_delta,
            "item/started": course.item_started,
            "item/completed": course.item_completed,
            "turn/started": course.turn_started,
            "turn/completed": course.turn_completed,
            "thread/tokenUsage/updated": course.usage,
            "turn/plan/updated": self._planned,
            "item/mcpToolCall/progress": course.progress,
            "item/commandExecution/terminalInteraction": course.typed,
            "serverRequest/resolved": self._resolved,
        }

    def _planned(self, params: Fields) -> Iterator[Said]:
        if self._course.whose(params) == "":
            yield notices.plan_of(params)

    def _note(self, text: str, *, once: bool) -> Iterator[Said]:
        now, digest = self._course.now, zlib.crc32(text.encode("utf-8", "replace"))
        if once and digest in now.told:
            return
        if once:
            self._course.set(told=(*now.told, digest)[-TOLD:])
        if now.thread:
            yield Note(NoteKind.AGENT_LOG, text)
        else:
            self._course.set(early=(*now.early, text)[:EARLY])


def _input(piece: Content) -> dict[str, object]:
    """A piece of an input, as Codex takes it."""
    if isinstance(piece, Image):
        data = base64.b64encode(piece.data).decode("ascii")
        return {"type": "image", "url": f"data:{piece.media_type};base64,{data}"}
    if isinstance(piece, Text):
        text = piece.text
    else:
        text = f"{piece.title}: {piece.uri}" if piece.title else piece.uri
    return {"type": "text", "text": text, "text_elements": []}
