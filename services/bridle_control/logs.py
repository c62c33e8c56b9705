"""Control's log: one line an entry on stderr, `key=value`, made for people and for grep alike.

    time=2025-01-31T12:00:00.123Z level=info from=bridle.control.app msg=serving grpc=127.0.0.1:1

No payloads, no secrets: whoever logs hands over ids, names, codes and numbers by `kv`. A fault's
traceback is one field of its line; a token that got into one is cut to its prefix. Called by
`__main__`; all modules log by the standard library.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import TextIO

_FIELDS = "bridle_fields"
#: Also one that was cut somewhere.
_SECRET = re.compile(r"(br[tsjh]_)[A-Za-z0-9_-]{8,}")


def masked(text: str) -> str:
    """The text with every secret of ours in it cut to its prefix: the second line of defence."""
    return _SECRET.sub(r"\1…", text)


def kv(**fields: object) -> dict[str, dict[str, object]]:
    """The fields of an entry: `log.info("linked", extra=kv(host=host_id, epoch=3))`."""
    return {_FIELDS: fields}


class LineFormatter(logging.Formatter):
    """Makes an entry one line, whatever is in it."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        time = datetime.fromtimestamp(record.created, UTC)
        fields: dict[str, object] = {
            "time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "from": record.name,
            "msg": record.getMessage(),
            **getattr(record, _FIELDS, {}),
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        line = " ".join(f"{key}={_quoted(value)}" for key, value in fields.items())
        return masked(line)


def _quoted(value: object) -> str:
    text = str(value)
    if text and text.isprintable() and not any(c in text for c in ' "=\\'):
        return text
    return json.dumps(text)


def configure(level: str = "INFO", stream: TextIO | None = None) -> None:
    """Sends everything that is logged in this process to stderr, one line each."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(LineFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # grpc tells what a client did wrong as if it were ours, and shows metadata that can't be
    # decoded, which may hold a token. What handlers raise, the interceptor logs.
    logging.getLogger("grpc").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
