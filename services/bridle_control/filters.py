"""The lists' shared words: `filter`, `order_by`, `page_size` and `page_token`.

Pure functions over text and values; called by every List RPC and by WatchSessions. A list that
reads all its rows into memory (tokens, hosts) uses `page`; one that reads from an index uses the
parsed terms, the order and the token's key by itself.

    filter   = term *( "AND" term )
    term     = field ( "=" | "!=" ) value
    field    = letter *( letter | digit | "_" | "." | "-" | "/" )
    value    = word without blanks, or a string in double quotes (\\" and \\\\ inside)
    order_by = field [ "desc" | "asc" ]

Everything that breaks this is INVALID_REQUEST with the field ("filter", "order_by", "page_token")
and a line that says where.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

from bridle_control.store import api
from bridle_core.errors import BridleError, FieldViolation, Reason

Value = str | int | bool
Row = TypeVar("Row")

DEFAULT_PAGE_SIZE = 100

_FIELD = r"[A-Za-z][A-Za-z0-9_./-]*"
_TERM = re.compile(
    rf"\s*(?P<field>{_FIELD})\s*(?P<sign>!?=)\s*"
    r'(?:"(?P<quoted>(?:[^"\\]|\\["\\])*)"|(?P<word>[^\s"]+))(?=\s|$)'
)
_AND = re.compile(r"\s+AND(?=\s)")
_ORDER = re.compile(rf"\s*(?P<field>{_FIELD})(?:\s+(?P<way>desc|asc))?\s*")
_FILTER_TERMS_MAX = 16  # a filter of 1024 characters has no use for more


class Kind(Enum):
    """What a filter's field may be compared with."""

    TEXT = "text"
    INTEGER = "integer"
    BOOLEAN = "boolean"


@dataclass(frozen=True, slots=True)
class Choice:
    """A field whose values are those of an enum: written as names, compared as numbers."""

    numbers: Mapping[str, int]

    @classmethod
    def of(cls, items: Iterable[tuple[str, int]], prefix: str) -> Choice:
        """An enum's `items()`; the names without their prefix, and without UNSPECIFIED."""
        named = {name.removeprefix(prefix): number for name, number in items}
        named.pop("UNSPECIFIED", None)
        return cls(named)


#: A list's fields. A name that ends with a dot ("labels.") stands for all that begin with it.
Fields = Mapping[str, Kind | Choice]


@dataclass(frozen=True, slots=True)
class Term:
    """One comparison. `value` has the type of its field."""

    field: str
    equal: bool
    value: Value

    def meets(self, value: Value | None) -> bool:
        """Whether a row's value (None: it has none) meets the term."""
        return (value == self.value) is self.equal


@dataclass(frozen=True, slots=True)
class Order:
    """How a list is sorted."""

    field: str
    descending: bool = False


def invalid(field: str, description: str) -> BridleError:
    """An INVALID_REQUEST about one field of the request."""
    return BridleError(
        Reason.INVALID_REQUEST,
        f"{field}: {description}",
        fields=[FieldViolation(field, description)],
    )


# --- filter and order --------------------------------------------------------------------------


def parse_filter(text: str, fields: Fields) -> tuple[Term, ...]:
    """The terms of a filter; none for an empty one."""
    if not text.strip():
        return ()
    terms: list[Term] = []
    position = 0
    while True:
        match = _TERM.match(text, position)
        if match is None:
            raise invalid("filter", f'expected `field = value` at "{_excerpt(text, position)}"')
        terms.append(_term(match, fields))
        if len(terms) > _FILTER_TERMS_MAX:
            raise invalid("filter", f"more than {_FILTER_TERMS_MAX} terms")
        position = match.end()
        if not text[position:].strip():
            return tuple(terms)
        joint = _AND.match(text, position)
        if joint is None:
            raise invalid("filter", f'expected AND at "{_excerpt(text, position)}"')
        position = joint.end()


def _excerpt(text: str, position: int) -> str:
    return text[position : position + 40].strip()


def _term(match: re.Match[str], fields: Fields) -> Term:
    name = match["field"]
    prefix, dot, key = name.partition(".")
    kind = fields.get(name if not dot else prefix + dot) if key or not dot else None
    if kind is None:
        known = ", ".join(f"{field}KEY" if field.endswith(".") else field for field in fields)
        raise invalid("filter", f'unknown field "{name}"; known: {known}')
    if match["word"] is not None:
        raw = match["word"]
    else:
        raw = re.sub(r'\\(["\\])', r"\1", match["quoted"])
    return Term(name, match["sign"] == "=", _value(name, kind, raw))


def _value(name: str, kind: Kind | Choice, raw: str) -> Value:
    if isinstance(kind, Choice):
        if raw not in kind.numbers:
            raise invalid("filter", f"{name} is one of {', '.join(sorted(kind.numbers))}")
        return kind.numbers[raw]
    if kind is Kind.BOOLEAN:
        if raw not in ("true", "false"):
            raise invalid("filter", f"{name} is true or false")
        return raw == "true"
    if kind is Kind.INTEGER:
        if not re.fullmatch(r"[0-9]{1,18}", raw):
            raise invalid("filter", f"{name} is a number")
        return int(raw)
    return raw


def store_terms(terms: Iterable[Term], *, keyed: str = "labels.") -> list[api.Term]:
    """The terms as the store takes them: "labels.team" becomes the field "labels", key "team"."""
    result = []
    for term in terms:
        if term.field.startswith(keyed):
            key = term.field.removeprefix(keyed)
            result.append(api.Term(keyed[:-1], term.value, equal=term.equal, key=key))
        else:
            result.append(api.Term(term.field, term.value, equal=term.equal))
    return result


def matches(terms: Iterable[Term], value_of: Callable[[str], Value | None]) -> bool:
    """Whether a row, read by `value_of(field)`, meets all terms."""
    return all(term.meets(value_of(term.field)) for term in terms)


def parse_order(text: str, allowed: Sequence[str], default: Order) -> Order:
    """The order that `order_by` asks for; the default for an empty one."""
    if not text.strip():
        return default
    match = _ORDER.fullmatch(text)
    if match is None or match["field"] not in allowed:
        raise invalid("order_by", f"expected {' or '.join(allowed)}, with desc behind it if wished")
    return Order(match["field"], match["way"] == "desc")


# --- pages -------------------------------------------------------------------------------------


def encode_page_token(question: Sequence[str], key: Sequence[str | int]) -> str:
    """The token of the page after the row with this key.

    `question` is what the list was asked (workspace, filter, order …): a token is good for the
    same question only.
    """
    text = json.dumps([_fingerprint(question), *key], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_page_token(question: Sequence[str], token: str) -> tuple[str | int, ...] | None:
    """The key in a page token; None for the empty token, which is the first page's."""
    if not token:
        return None
    try:
        text = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        parts = json.loads(text)
    except (binascii.Error, ValueError, RecursionError):
        raise invalid("page_token", "it is none of ours") from None
    if not isinstance(parts, list) or not all(_is_key(part) for part in parts):
        raise invalid("page_token", "it is none of ours")
    if not parts or parts[0] != _fingerprint(question):
        raise invalid("page_token", "it belongs to another list, filter or order")
    return tuple(parts[1:])


def _is_key(part: object) -> bool:
    """Whether rows have such keys: texts, and numbers of 64 bits."""
    if type(part) is int:
        return -(2**63) <= part < 2**63
    return type(part) is str


def _fingerprint(question: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(list(question)).encode()).hexdigest()[:16]


def page(
    rows: Iterable[Row],
    *,
    key_of: Callable[[Row], tuple[str | int, ...]],
    descending: bool,
    page_size: int,
    page_token: str,
    question: Sequence[str],
) -> tuple[list[Row], str]:
    """One page of rows that are all in memory, and the token of the next ("" at the end).

    `key_of` gives the sort key, made unique by the row's id at its end. A row that comes or goes
    between two pages shifts nothing: pages are cut by key, not by number.
    """
    after = decode_page_token(question, page_token)
    ordered = sorted(rows, key=key_of, reverse=descending)
    if after is not None:
        try:
            if descending:
                ordered = [row for row in ordered if key_of(row) < after]
            else:
                ordered = [row for row in ordered if key_of(row) > after]
        except TypeError:
            raise invalid("page_token", "it is none of ours") from None
    size = page_size or DEFAULT_PAGE_SIZE
    chosen = ordered[:size]
    more = len(ordered) > size
    return chosen, encode_page_token(question, key_of(chosen[-1])) if more else ""
