"""The table of errors against the contract: each reason, its code, its comment."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from google.rpc import code_pb2

from bridle.v1 import error_reason_pb2
from bridle_core.errors import CODE_OF, DOMAIN, BridleError, Code, FieldViolation, Reason

PROTO = Path(__file__).parents[2] / "proto/bridle/v1/error_reason.proto"
PREFIX = "ERROR_REASON_"


def codes_of_the_comments() -> dict[str, str]:
    """Reason -> the status code that its comment in the proto begins with."""
    found = re.findall(
        rf"// ([A-Z_]+): [^\n]*(?:\n\s*//[^\n]*)*\n\s*{PREFIX}([A-Z_]+) = \d+;",
        PROTO.read_text(encoding="utf-8"),
    )
    return {reason: code for code, reason in found}


def test_the_table_holds_every_reason_of_the_contract_and_no_other() -> None:
    names = error_reason_pb2.ErrorReason.DESCRIPTOR.values_by_name
    in_proto = {name.removeprefix(PREFIX) for name in names}
    assert {reason.value for reason in Reason} == in_proto - {"UNSPECIFIED"}
    assert set(CODE_OF) == set(Reason)


@pytest.mark.parametrize("reason", list(Reason))
def test_the_code_of_a_reason_is_the_one_that_its_comment_names(reason: Reason) -> None:
    assert codes_of_the_comments()[reason.value] == CODE_OF[reason].name


@pytest.mark.parametrize("code", list(Code))
def test_codes_have_the_numbers_of_google_rpc(code: Code) -> None:
    assert code_pb2.Code.Value(code.name) == code.value


def test_names_and_values_of_reasons_are_the_same() -> None:
    assert all(reason.name == reason.value for reason in Reason)


def test_the_domain_is_the_one_that_the_contract_names() -> None:
    assert f'domain "{DOMAIN}"' in PROTO.read_text(encoding="utf-8").replace("\n// ", " ")


def test_an_error_carries_code_text_metadata_fields_and_pause() -> None:
    violation = FieldViolation("session.slug", "must be a DNS label")
    error = BridleError(
        Reason.INVALID_REQUEST,
        "the slug is none",
        metadata={"a": "b"},
        fields=[violation],
        retry_after=1.5,
    )
    assert error.code is Code.INVALID_ARGUMENT
    assert str(error) == error.message == "the slug is none"
    assert error.metadata == {"a": "b"}
    assert error.fields == (violation,)
    assert error.retry_after == 1.5


def test_an_error_without_more_has_no_metadata_no_fields_and_no_pause() -> None:
    error = BridleError(Reason.SLUG_TAKEN, "taken")
    assert (error.metadata, error.fields, error.retry_after) == ({}, (), None)
