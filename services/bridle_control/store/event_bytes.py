"""Events as bytes: what control adds to them, and how they stand in a batch, without parsing.

A serialized message may be lengthened by further fields (protobuf concatenation), so control adds
sequence, commit time and principal behind what the host wrote. Events are stored as they stand in
`EventBatch.events`: tag, length, bytes; a batch is then a plain join. Called by the store's log and
by the watch hub; knows the field numbers of bridle.v1.Event and EventBatch, which never change.
"""

from __future__ import annotations

# Tags: field number * 8 + wire type (0 varint, 2 length-delimited).
_BATCH_EVENTS = b"\x1a"  # EventBatch.events = 3
_SEQUENCE = b"\x08"  # Event.sequence = 1
_COMMIT_TIME = b"\x1a"  # Event.commit_time = 3
_PRINCIPAL = b"\x3a"  # Event.principal = 7
_RUN_FIELD = 4
_TURN_FIELD = 5

_SMALL = tuple(bytes((number,)) for number in range(128))


def varint(number: int) -> bytes:
    """A non-negative number as protobuf writes it."""
    if number < 128:
        return _SMALL[number]
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def field_bytes(tag: bytes, value: bytes) -> bytes:
    """A length-delimited field."""
    return tag + varint(len(value)) + value


def commit_time_field(time_ns: int) -> bytes:
    """Event.commit_time at a time, given in nanoseconds since the epoch."""
    seconds, nanos = divmod(time_ns, 10**9)
    stamp = b"\x08" + varint(seconds)
    if nanos:
        stamp += b"\x10" + varint(nanos)
    return field_bytes(_COMMIT_TIME, stamp)


def principal_field(principal: bytes) -> bytes:
    """Event.principal, from a serialized Principal; b"" for none."""
    return field_bytes(_PRINCIPAL, principal) if principal else b""


def frame(data: bytes, sequence: int, added: bytes) -> bytes:
    """An event as it is stored: `data` from the host, its sequence, further fields, framed."""
    number = varint(sequence)
    size = len(data) + 1 + len(number) + len(added)
    return b"".join((_BATCH_EVENTS, varint(size), data, _SEQUENCE, number, added))


def unframe(framed: bytes) -> bytes:
    """The serialized Event in a framed one."""
    _, start = _read_varint(framed, 1)
    return framed[start:]


def run_and_turn(event: bytes) -> tuple[int, int]:
    """Event.run and Event.turn, read from the bytes of one serialized Event.

    Bytes that are no message give (0, 0).
    """
    run = turn = position = 0
    try:
        while position < len(event):
            key, position = _read_varint(event, position)
            number, kind = key >> 3, key & 7
            if kind == 0:
                value, position = _read_varint(event, position)
                if number == _RUN_FIELD:
                    run = value
                elif number == _TURN_FIELD:
                    turn = value
            elif kind == 2:
                size, position = _read_varint(event, position)
                position += size
            elif kind in (1, 5):
                position += 8 if kind == 1 else 4
            else:
                return 0, 0
    except IndexError:
        return 0, 0
    return run, turn


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
        shift += 7
