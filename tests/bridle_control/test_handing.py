"""How commands are put together into messages."""

from __future__ import annotations

from bridle.host.v1 import host_link_service_pb2 as wire
from bridle_control.links.handing import in_batches


def command(number: int, size: int = 0) -> wire.Command:
    """A command of roughly so many bytes."""
    return wire.Command(command_id=f"c{number}", session_id="x" * size)


def ids(commands: list[wire.Command]) -> list[list[str]]:
    """The ids of each batch."""
    return [[each.command_id for each in batch] for batch in in_batches(commands)]


def test_small_commands_go_into_one_message_in_their_order() -> None:
    assert ids([command(number) for number in range(4)]) == [["c0", "c1", "c2", "c3"]]


def test_a_message_ends_where_the_next_command_would_make_it_larger_than_a_mebibyte() -> None:
    half = 500 * 1024
    commands = [command(0, half), command(1, half), command(2, half), command(3)]
    assert ids(commands) == [["c0", "c1"], ["c2", "c3"]]


def test_a_command_that_is_larger_by_itself_goes_alone() -> None:
    commands = [command(0), command(1, 2 * 1024 * 1024), command(2)]
    assert ids(commands) == [["c0"], ["c1"], ["c2"]]


def test_nothing_makes_no_message() -> None:
    assert ids([]) == []
