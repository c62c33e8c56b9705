"""What the commands have in common: the entry, options, errors in one line, exit codes.

    @command("interrupt", wait=True)
    @click.argument("slug", required=False)
    async def interrupt(call: Call, slug: str | None) -> int | None: ...

A command is a coroutine that gets a `Call` and returns an exit code, None for 0. Called by
bridle.cli.main and by each module of commands.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import click

from bridle.errors import BridleError, Code

if TYPE_CHECKING:
    from grpc import aio

    from bridle.client import Client
    from bridle.settings import Settings
    from bridle.v1 import session_pb2


class ExitCode(IntEnum):
    """What the process ends with."""

    DONE = 0
    FAILURE = 1
    USAGE = 2
    NOT_FOUND = 3
    UNAUTHENTICATED = 4
    PERMISSION_DENIED = 5
    UNAVAILABLE = 6
    FAILED_PRECONDITION = 7
    INTERRUPTED = 130
    BROKEN_PIPE = 141


_EXIT_OF = {
    Code.INVALID_ARGUMENT: ExitCode.USAGE,
    Code.NOT_FOUND: ExitCode.NOT_FOUND,
    Code.UNAUTHENTICATED: ExitCode.UNAUTHENTICATED,
    Code.PERMISSION_DENIED: ExitCode.PERMISSION_DENIED,
    Code.UNAVAILABLE: ExitCode.UNAVAILABLE,
    Code.DEADLINE_EXCEEDED: ExitCode.UNAVAILABLE,
    Code.FAILED_PRECONDITION: ExitCode.FAILED_PRECONDITION,
}

#: The next thing to do, by reason.
_HINTS = {
    "SESSION_NOT_FOUND": "`bridle ls -a` lists the sessions",
    "HOST_NOT_FOUND": "`bridle hosts` lists the hosts",
    "WORKSPACE_NOT_FOUND": "`bridle workspace list` lists the workspaces",
    "INPUT_NOT_FOUND": "`bridle queue list` lists the inputs that wait",
    "TOKEN_MISSING": "`bridle auth login` stores a token; `bridle up` starts a control here",
    "TOKEN_INVALID": "`bridle auth login` stores another token",
    "TOKEN_EXPIRED": "`bridle auth login` stores another token",
    "TOKEN_REVOKED": "`bridle auth login` stores another token",
    "SLUG_TAKEN": "`bridle session resume` takes it up again; `bridle session delete` frees it",
    "SESSION_ENDED": "`bridle session resume` takes it up again",
    "SESSION_ENDING": "`bridle wait --for end` waits for its end",
    "SESSION_LIVE": "`bridle session stop` or `bridle kill` ends it; where its host is away,"
    " `bridle session resume --force --host H` gives its run up",
    "AGENT_NOT_INSTALLED": "`bridle agents` lists the agents",
    "CAPABILITY_MISSING": "with `--or-queue` it waits for the next turn instead",
    "NO_HOST": "`bridle hosts` lists the hosts; `bridle up` runs one on this machine",
    "HOST_IN_USE": "`bridle host drain` stops its sessions first; `--force` gives them up",
    "CURSOR_COMPACTED": "`--from 0` begins at the oldest event that is kept",
    "CURSOR_FOREIGN": "`--from 0` begins anew",
}


class Call:
    """One run of a command: its options that all commands have, and the client."""

    def __init__(self, path: str, *, workspace: str, address: str, json: bool, wait: bool) -> None:
        self.path = path
        self.json = json
        self.wait = wait
        self._workspace = workspace
        self._address = address

    @functools.cached_property
    def settings(self) -> Settings:
        from bridle.settings import load

        return load(address=self._address, workspace=self._workspace)

    def client(self, **more: Any) -> Client:
        """A client by the settings; close it with `async with`."""
        from bridle.client import Client

        found = self.settings
        return Client(
            found.address,
            token=found.token,
            workspace=found.workspace,
            insecure=found.insecure,
            tls_ca=found.tls_ca,
            interceptors=_trace_context(),
            **more,
        )

    def session(self, slug: str | None) -> str | session_pb2.SessionRef:
        """The session that is meant: the one named, or inside a session itself."""
        if slug and slug != ".":
            return check_text(slug, "the slug")
        if not self.settings.session:
            raise click.UsageError(
                "missing argument SLUG; only inside a session it may be left out"
            )
        from bridle.calls import by_id

        own = os.environ.get("BRIDLE_SESSION_ID", "")
        return by_id(own) if own else self.settings.session

    def session_and_text(self, words: tuple[str, ...]) -> tuple[str | None, str]:
        """Slug and text of `[SLUG] TEXT…`. Inside a session a single word is the text; to name a
        session there, itself by ".", takes two.
        """
        if self.settings.session and len(words) == 1:
            return None, text_of(words)
        return (words[0] if words else None), text_of(words[1:])

    def note(self, text: str) -> None:
        """A line on stderr beside the answer."""
        complain(self.path, text)


def _trace_context() -> Sequence[aio.ClientInterceptor]:
    if "TRACEPARENT" not in os.environ:
        return ()
    from bridle.cli.trace_context import interceptors

    return interceptors(os.environ)


def check_text(text: str, what: str) -> str:
    """Text from the command line that is UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise click.UsageError(f"{what} is not UTF-8") from None
    return text


def text_of(words: tuple[str, ...]) -> str:
    """The text of TEXT…: joined by spaces; "-" alone reads stdin."""
    if words != ("-",):
        return check_text(" ".join(words), "the text")
    try:
        return sys.stdin.buffer.read().decode().removesuffix("\n")
    except UnicodeDecodeError:
        raise click.UsageError("the text on stdin is not UTF-8") from None


Function = Callable[..., Awaitable["int | None"]]


def command(
    name: str, *, json: bool = True, wait: bool = False, remote: bool = True
) -> Callable[[Function], click.Command]:
    """Makes a command of a coroutine function, with the options that all have.

    json: it prints something that has a JSON form. wait: an outcome can be awaited. remote: it
    calls a control.
    """

    def decorate(function: Function) -> click.Command:
        @functools.wraps(function)
        def callback(**options: Any) -> None:
            ctx = click.get_current_context()
            call = Call(
                ctx.command_path.partition(" ")[2],
                workspace=options.pop("workspace", None) or "",
                address=options.pop("address", None) or "",
                json=options.pop("json_", False),
                wait=options.pop("wait_", False),
            )
            import asyncio
            import gc

            async def body() -> int | None:
                # Switched off to start quickly; what stays for longer needs it.
                asyncio.get_running_loop().call_later(1.0, gc.enable)
                return await function(call, **options)

            try:
                code = asyncio.run(body()) or ExitCode.DONE
            except click.UsageError as error:
                error.ctx = error.ctx or ctx
                raise
            except BridleError as error:
                code = report(call.path, error)
            # Not left to click, which prints a line for the one and hides the other.
            except KeyboardInterrupt:
                code = ExitCode.INTERRUPTED
            except BrokenPipeError:
                code = _broken_pipe()
            except OSError as error:
                code = _trouble(call.path, error)
            ctx.exit(code)

        made = click.command(name)(callback)
        if wait:
            made.params.append(
                click.Option(["--wait", "wait_"], is_flag=True, help="Wait for the outcome.")
            )
        if remote:
            made.params += [
                click.Option(["--workspace"], metavar="NAME", help="The workspace."),
                click.Option(["--address"], metavar="HOST:PORT", help="The control to call."),
            ]
        if json:
            made.params.append(
                click.Option(["--json", "json_"], is_flag=True, help="Print JSON, one a line.")
            )
        return made

    return decorate


# --- the end of every command ------------------------------------------------------------------


def run_command_line() -> int:
    """Runs the command line of the process; returns its exit code. Prints errors, one line each."""
    from bridle.cli.app import root

    try:
        code = root.main(prog_name="bridle", standalone_mode=False)
        sys.stdout.flush()
        return int(code or 0)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return ExitCode.USAGE
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx is not None else "bridle"
        text = error.format_message().rstrip(".")
        complain(path.partition(" ")[2], f"{text[:1].lower()}{text[1:]}")
        return ExitCode.USAGE
    except click.ClickException as error:
        complain("", error.format_message())
        return ExitCode.FAILURE
    except BrokenPipeError:
        return _broken_pipe()
    except (KeyboardInterrupt, click.Abort):
        return ExitCode.INTERRUPTED
    except OSError as error:
        return _trouble("", error)
    except Exception as error:
        if os.environ.get("BRIDLE_DEBUG"):
            raise
        complain("", f"a fault of Bridle: {type(error).__name__}: {error}")
        print("hint: BRIDLE_DEBUG=1 shows where", file=sys.stderr)
        return ExitCode.FAILURE


def report(path: str, error: BridleError) -> int:
    """Prints a failed call and returns the exit code."""
    text = error.message
    if error.fields:
        text = "; ".join(f"{item.field}: {item.description}" for item in error.fields)
    if not error.local:
        text = f"{error.code.name}: {text}"
    complain(path, text)
    hint = _HINTS.get(error.reason, "")
    if error.code is Code.UNAVAILABLE and not error.reason:
        hint = "`bridle up` starts a control on this machine; `--address` names another"
    if hint:
        print(f"hint: {hint}", file=sys.stderr)
    return _EXIT_OF.get(error.code, ExitCode.FAILURE)


def complain(path: str, text: str) -> None:
    """One line on stderr: `bridle: session interrupt: …`."""
    from bridle.terminal import clean_line

    print(": ".join(part for part in ("bridle", path, clean_line(text)) if part), file=sys.stderr)


def _trouble(path: str, error: OSError) -> int:
    """The machine refuses: a full disk, a folder that can't be written."""
    if os.environ.get("BRIDLE_DEBUG"):
        raise error
    where = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    complain(path, ": ".join(part for part in (where, error.strerror or str(error)) if part))
    print("hint: BRIDLE_DEBUG=1 shows where", file=sys.stderr)
    return _no_output() if error.errno == errno.ENOSPC else ExitCode.FAILURE


def _no_output() -> int:
    """What is still buffered for a stdout that is full must not complain at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return ExitCode.FAILURE


def _broken_pipe() -> int:
    """Whoever read has gone. What is still buffered must not complain at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return ExitCode.BROKEN_PIPE
