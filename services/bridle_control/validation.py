"""Checks requests against the rules that stand in the protos.

One rule set for all languages (protovalidate). Called by the interceptor, for each unary request
and for the first message of a stream; what comes later on a stream is the business of the machine
that reads it (the link).
"""

from __future__ import annotations

from collections.abc import Iterator

import protovalidate
from google.protobuf.message import Message

from bridle_core.errors import BridleError, FieldViolation, Reason

#: Of one request; a list of 64 broken items needs no 64 lines.
_VIOLATIONS_MAX = 16

#: The patterns of the protos that people meet, in words.
_PATTERNS = {
    "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$": (
        "must be 1 to 63 lower-case letters (a-z), digits and hyphens, no hyphen first or last"
    ),
}

# Compiled rules are cached in it, so there is one. It is never told a request's content to keep.
_validator = protovalidate.Validator()


def check(request: object) -> None:
    """Raises INVALID_REQUEST with the paths of the fields that break a rule.

    Messages without rules, and requests that are no protobuf messages, pass.
    """
    if not isinstance(request, Message):
        return
    try:
        violations = _validator.collect_violations(request)
    except ValueError as error:
        # Some bytes that protobuf takes make the validator fail (2.x raises a plain ValueError).
        raise BridleError(
            Reason.INVALID_REQUEST, "the request can't be read: malformed field"
        ) from error
    if violations:
        raise broken_rules(violations)


def broken_rules(violations: list[protovalidate.Violation]) -> BridleError:
    """The error that names the fields."""
    fields = []
    for violation in violations[:_VIOLATIONS_MAX]:
        path = "".join(_path(violation))
        text = _words(violation) or violation.proto.message or violation.proto.rule_id
        fields.append(FieldViolation(path, text))
    first = fields[0]
    text = f"{first.field}: {first.description}" if first.field else first.description
    if len(violations) > 1:
        text += f" (and {len(violations) - 1} more)"
    return BridleError(Reason.INVALID_REQUEST, text, fields=fields)


def _words(violation: protovalidate.Violation) -> str:
    if violation.proto.rule_id != "string.pattern":
        return ""
    return _PATTERNS.get(str(violation.rule_value), "")


def undecodable() -> BridleError:
    """The error for bytes that are not the message that they should be."""
    return BridleError(
        Reason.INVALID_REQUEST, "the request can't be read: not a message of this method"
    )


def _path(violation: protovalidate.Violation) -> Iterator[str]:
    """The path of the field: session.slug, content[2].text, labels["a b"]."""
    elements = violation.proto.field.elements if violation.proto.field is not None else ()
    for index, element in enumerate(elements):
        if index:
            yield "."
        yield element.field_name
        subscript = element.subscript
        if subscript is not None:
            # A key of the caller's own making is shown quoted, so that it stays on its line.
            yield f"[{subscript.value!r}]"
