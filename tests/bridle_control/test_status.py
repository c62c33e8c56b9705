"""What goes over the wire of an error, and what goes into the log."""

from __future__ import annotations

import io
import logging
import sys

import grpc
import pytest
from google.rpc import error_details_pb2
from hypothesis import given
from hypothesis import strategies as st

from bridle_control.deadlines import wait_budget
from bridle_control.logs import LineFormatter, configure, kv
from bridle_control.status import internal, one_line, to_grpc_code, to_status
from bridle_core.errors import CODE_OF, BridleError, FieldViolation, Reason


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_becomes_its_code_and_an_error_info(reason: Reason) -> None:
    error = BridleError(reason, "text", metadata={"a": "b"})
    status = to_status(error)
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (info.reason, info.domain, dict(info.metadata)) == (reason, "bridle.v1", {"a": "b"})
    assert status.code == CODE_OF[reason]
    assert to_grpc_code(error).value[0] == status.code
    assert isinstance(to_grpc_code(error), grpc.StatusCode)


@given(st.text(max_size=2000), st.integers(4, 400))
def test_a_line_is_one_line_without_control_characters_and_short(text: str, limit: int) -> None:
    made = one_line(text, limit)
    assert made.isprintable() or "…" in made
    assert len(made.encode()) <= limit
    assert "\n" not in made


def test_text_that_no_bytes_can_hold_is_still_told() -> None:
    assert one_line("a\ud800b", 100) == "a\\ud800b"


def test_an_error_of_any_size_fits_into_metadata() -> None:
    big = "ä" * 10_000
    error = BridleError(
        Reason.INVALID_REQUEST,
        big,
        metadata={f"key{i}": big for i in range(4)},
        fields=[FieldViolation(big, big)] * 100,
    )
    status = to_status(error)
    # Over the wire: the text percent-encoded, the details in base64.
    assert len(status.message.encode()) * 3 + len(status.SerializeToString()) * 4 / 3 < 8192


def test_an_internal_error_tells_an_id_and_nothing_else() -> None:
    error = internal("0123")
    assert error.reason is Reason.INTERNAL
    assert error.metadata == {"id": "0123"}
    assert "0123" in error.message


# --- the log ---------------------------------------------------------------------------------


def line(message: str, *args: object, exc: bool = False, **fields: object) -> str:
    record = logging.LogRecord(
        "bridle.test", logging.WARNING, __file__, 1, message, args, sys.exc_info() if exc else None
    )
    for key, value in kv(**fields).items():
        setattr(record, key, value)
    return LineFormatter().format(record)


def test_an_entry_is_one_line_of_keys_and_values() -> None:
    made = line("linked %s", "twice", host="h1", epoch=3)
    assert made.split(" ", 1)[1] == (
        'level=warning from=bridle.test msg="linked twice" host=h1 epoch=3'
    )
    assert made.startswith("time=")


def test_what_is_logged_can_not_make_lines_of_its_own() -> None:
    made = line("x", name='evil\nlevel=info msg="all is well"\x1b[2J', empty="")
    assert made.isprintable()
    assert 'name="evil\\nlevel=info msg=\\"all is well\\"\\u001b[2J" empty=""' in made


def test_a_traceback_is_one_field_even_of_an_exception_that_can_not_be_shown() -> None:
    class HostileError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    try:
        raise HostileError
    except HostileError:
        made = line("fault", exc=True, id="1")
    assert made.count("\n") == 0
    assert 'traceback="Traceback' in made


def test_the_level_is_the_one_that_is_configured() -> None:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    others = {name: logging.getLogger(name).level for name in ("grpc", "asyncio")}
    out = io.StringIO()
    try:
        configure("WARNING", out)
        logging.getLogger("bridle.test").info("quiet")
        logging.getLogger("bridle.test").warning("loud", extra=kv(a=1))
    finally:
        root.handlers[:] = before
        root.setLevel(level)
        for name, kept in others.items():
            logging.getLogger(name).setLevel(kept)
    assert out.getvalue().count("\n") == 1
    assert "msg=loud a=1" in out.getvalue()


# --- waits -----------------------------------------------------------------------------------


class Deadline:
    def __init__(self, remaining: float | None) -> None:
        self.remaining = remaining

    def time_remaining(self) -> float | None:
        return self.remaining


@pytest.mark.parametrize(
    ("remaining", "budget"),
    [(None, 5.0), (60.0, 5.0), (5.0, 4.5), (2.0, 1.8), (0.5, 0.4), (0.1, 0.0), (-1.0, 0.0)],
)
def test_a_call_waits_so_long_that_there_is_time_to_answer(
    remaining: float | None, budget: float
) -> None:
    assert wait_budget(Deadline(remaining)) == pytest.approx(budget)
