"""The host's log: one line an entry, whatever is in it."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from bridle_host.logs import configure, kv


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    names = [logging.getLogger("grpc"), logging.getLogger("asyncio")]
    levels = [logger.level for logger in names]
    stream = io.StringIO()
    configure("INFO", stream)
    try:
        yield stream
    finally:
        root.handlers, root.level = handlers, level
        for logger, before in zip(names, levels, strict=True):
            logger.setLevel(before)


def test_an_entry_is_one_line_of_keys_and_values(lines: io.StringIO) -> None:
    logging.getLogger("bridle.host.link").info("link is up", extra=kv(control="1.2.3.4:5"))
    (line,) = lines.getvalue().splitlines()
    assert line.startswith("time=")
    assert line.endswith(' level=info from=bridle.host.link msg="link is up" control=1.2.3.4:5')


def test_values_cannot_forge_a_line_or_a_key(lines: io.StringIO) -> None:
    logging.getLogger("x").warning("a", extra=kv(name='b\nlevel=error "c" \x1b[1m', empty=""))
    assert lines.getvalue().count("\n") == 1
    assert "\x1b" not in lines.getvalue()
    assert r'name="b\nlevel=error \"c\" \u001b[1m" empty=""' in lines.getvalue()


def test_a_traceback_is_one_field(lines: io.StringIO) -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logging.getLogger("x").exception("failed")
    assert lines.getvalue().count("\n") == 1
    assert "Traceback" in lines.getvalue()


def test_what_is_below_the_level_is_not_written(lines: io.StringIO) -> None:
    logging.getLogger("x").debug("hidden")
    logging.getLogger("grpc").warning("hidden")
    assert lines.getvalue() == ""
