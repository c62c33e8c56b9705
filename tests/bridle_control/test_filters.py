"""Filters, orders and pages of lists."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridle.v1 import host_pb2
from bridle_control.filters import (
    Choice,
    Fields,
    Kind,
    Order,
    Term,
    Value,
    decode_page_token,
    encode_page_token,
    matches,
    page,
    parse_filter,
    parse_order,
    store_terms,
)
from bridle_control.store import api
from bridle_core.errors import BridleError, Reason

FIELDS: Fields = {
    "name": Kind.TEXT,
    "turn": Kind.INTEGER,
    "live": Kind.BOOLEAN,
    "state": Choice.of(host_pb2.HostState.items(), "HOST_STATE_"),
    "labels.": Kind.TEXT,
}


def refused(field: str, text: str) -> str:
    parse: Callable[[], object]
    if field == "filter":
        parse = partial(parse_filter, text, FIELDS)
    else:
        parse = partial(parse_order, text, ("name", "create_time"), Order("name"))
    with pytest.raises(BridleError) as raised:
        parse()
    error = raised.value
    assert error.reason is Reason.INVALID_REQUEST
    [violation] = error.fields
    assert violation.field == field
    return violation.description


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("", ()),
        ("   ", ()),
        ("name=x", (Term("name", True, "x"),)),
        ("  name  !=  x  ", (Term("name", False, "x"),)),
        ('name = "x y"', (Term("name", True, "x y"),)),
        (r'name = "a\"b\\c"', (Term("name", True, 'a"b\\c'),)),
        ('name = ""', (Term("name", True, ""),)),
        ("name = AND", (Term("name", True, "AND"),)),
        ("name = a=b", (Term("name", True, "a=b"),)),
        ("turn = 3", (Term("turn", True, 3),)),
        ("live = true", (Term("live", True, True),)),
        ("live != false", (Term("live", False, False),)),
        ("state = CONNECTED", (Term("state", True, host_pb2.HOST_STATE_CONNECTED),)),
        ("labels.team/x = core", (Term("labels.team/x", True, "core"),)),
        (
            "name = x AND turn != 2 AND live = false",
            (Term("name", True, "x"), Term("turn", False, 2), Term("live", True, False)),
        ),
    ],
)
def test_a_filter_is_its_terms(text: str, terms: tuple[Term, ...]) -> None:
    assert parse_filter(text, FIELDS) == terms


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name", "expected `field = value`"),
        ("name =", "expected `field = value`"),
        ("= x", "expected `field = value`"),
        ("name < 3", "expected `field = value`"),
        ('name = "x', "expected `field = value`"),
        ('name = "x"y', "expected `field = value`"),
        ("name = x y", "expected AND"),
        ("name = x OR name = y", "expected AND"),
        ("name = x and name = y", "expected AND"),
        ("name = x AND", "expected AND"),
        ("name = x AND ", "expected `field = value`"),
        ("nome = x", 'unknown field "nome"; known: name, turn, live, state, labels.KEY'),
        ("labels. = x", 'unknown field "labels."'),
        ("turn = three", "turn is a number"),
        ("turn = 9999999999999999999", "turn is a number"),
        ("live = yes", "live is true or false"),
        ("state = BROKEN", "state is one of CONNECTED, DISCONNECTED"),
        ("state = UNSPECIFIED", "state is one of"),
        (" AND ".join(["turn = 1"] * 17), "more than 16 terms"),
    ],
)
def test_a_broken_filter_is_told_where(text: str, says: str) -> None:
    assert says in refused("filter", text)


@given(st.text(max_size=200))
def test_any_text_is_a_filter_or_an_invalid_request(text: str) -> None:
    reason: Reason | None = None
    try:
        parse_filter(text, FIELDS)
    except BridleError as error:
        reason = error.reason
    assert reason in (None, Reason.INVALID_REQUEST)


def test_all_terms_must_be_met_and_a_row_without_a_value_differs_from_all() -> None:
    row: dict[str, Value] = {"name": "x", "turn": 3}
    assert matches(parse_filter("name = x AND turn != 2", FIELDS), row.get)
    assert not matches(parse_filter("name = x AND turn = 2", FIELDS), row.get)
    assert matches(parse_filter("labels.a != b", FIELDS), row.get)
    assert not matches(parse_filter("labels.a = b", FIELDS), row.get)


def test_the_stores_terms_name_a_label_by_its_key() -> None:
    terms = store_terms(parse_filter("name != x AND labels.team = core", FIELDS))
    assert terms == [
        api.Term("name", "x", equal=False),
        api.Term("labels", "core", key="team"),
    ]


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("", Order("name")),
        ("create_time", Order("create_time")),
        (" create_time  desc ", Order("create_time", descending=True)),
        ("name asc", Order("name")),
    ],
)
def test_an_order_is_a_field_and_a_way(text: str, order: Order) -> None:
    assert parse_order(text, ("name", "create_time"), Order("name")) == order


@pytest.mark.parametrize("text", ["size", "name up", "name desc desc", "name, create_time"])
def test_a_broken_order_names_what_there_is(text: str) -> None:
    assert "expected name or create_time" in refused("order_by", text)


# --- pages -----------------------------------------------------------------------------------

QUESTION = ("List", "default", "", "")


def pages(rows: list[int], *, size: int, descending: bool = False) -> list[list[int]]:
    found, token = [], ""
    while True:
        chosen, token = page(
            rows,
            key_of=lambda row: (row // 10, str(row)),
            descending=descending,
            page_size=size,
            page_token=token,
            question=QUESTION,
        )
        found.append(chosen)
        if not token:
            return found


@given(st.lists(st.integers(10, 99), unique=True), st.integers(1, 10), st.booleans())
def test_pages_hold_every_row_once_and_in_order(
    rows: list[int], size: int, descending: bool
) -> None:
    found = pages(rows, size=size, descending=descending)
    assert [row for chosen in found for row in chosen] == sorted(rows, reverse=descending)
    assert all(len(chosen) == size for chosen in found[:-1])


def test_a_page_of_size_0_holds_a_hundred() -> None:
    assert [len(chosen) for chosen in pages(list(range(100, 350)), size=0)] == [100, 100, 50]


def test_a_page_token_is_good_for_its_own_question_only() -> None:
    token = encode_page_token(QUESTION, ("x", 3))
    assert decode_page_token(QUESTION, token) == ("x", 3)
    assert decode_page_token(QUESTION, "") is None
    with pytest.raises(BridleError) as raised:
        decode_page_token(("List", "other", "", ""), token)
    assert raised.value.fields[0].field == "page_token"


def forged(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "token",
    ["x", "ä", "====", "bm90IGpzb24", forged({}), forged([]), forged([1.5]), forged([True])],
)
def test_a_token_that_is_none_of_ours_is_an_invalid_request(token: str) -> None:
    with pytest.raises(BridleError) as raised:
        decode_page_token(QUESTION, token)
    assert raised.value.reason is Reason.INVALID_REQUEST


def test_a_token_with_a_number_that_no_row_has_is_an_invalid_request() -> None:
    with pytest.raises(BridleError) as raised:
        decode_page_token(QUESTION, encode_page_token(QUESTION, (2**64, "id")))
    assert raised.value.reason is Reason.INVALID_REQUEST


def test_a_token_whose_key_has_other_types_is_an_invalid_request() -> None:
    token = encode_page_token(QUESTION, ("text", "where a number is"))
    with pytest.raises(BridleError) as raised:
        page(
            [10, 20],
            key_of=lambda row: (row, "id"),
            descending=False,
            page_size=1,
            page_token=token,
            question=QUESTION,
        )
    assert raised.value.fields[0].field == "page_token"
