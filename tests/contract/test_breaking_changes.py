"""What `make check-buf-breaking` refuses of a change to the contract, and what it lets pass."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SERVICE = "bridle/v1/session_service.proto"
WATCH = "bridle/v1/watch.proto"
INPUT = "bridle/v1/input.proto"
RECEIPT = "bridle/v1/receipt.proto"
LINK = "bridle/host/v1/host_link_service.proto"


def recipe() -> list[str]:
    """The check's own command, from the Makefile; what sets up first is left out."""
    shown = subprocess.run(
        ["make", "-n", "check-buf-breaking"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    words = shown.stdout.splitlines()[-1].split()
    assert words[:2] == [".venv/bin/buf", "breaking"], shown.stdout
    return [str(Path(sys.executable).with_name("buf")), *words[1:]]


@pytest.fixture
def contract(tmp_path: Path) -> Path:
    """A copy of the contract with its settings; what comes of others is not copied."""
    shutil.copytree(ROOT / "proto", tmp_path / "proto")
    shutil.copy(ROOT / "buf.yaml", tmp_path)
    (tmp_path / "third_party").symlink_to(ROOT / "third_party")
    return tmp_path


def change(contract: Path, file: str, old: str, new: str) -> None:
    """Replaces what a pattern finds, which has to be there once."""
    path = contract / "proto" / file
    text, count = re.subn(old, new, path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert count == 1, f"{file}: {count} times: {old}"
    path.write_text(text, "utf-8")


def check(contract: Path) -> set[tuple[str, str]]:
    """(file, rule) of all that the check finds in the copy; none where it passes."""
    done = subprocess.run(
        [*recipe(), "--error-format=json"],
        cwd=contract,
        capture_output=True,
        text=True,
        check=False,
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    # Anything but what it finds is a mistake of this test's, as a proto that is none.
    assert done.returncode == (100 if found else 0), (done.stdout, done.stderr)
    assert all(each["type"] != "COMPILE" for each in found), done.stdout
    # (A file that isn't there any more has no path; the words name it.)
    return {(each.get("path", "").removeprefix("proto/"), each["type"]) for each in found}


def test_the_contract_as_it_is_breaks_nothing(contract: Path) -> None:
    assert check(contract) == set()


@pytest.mark.parametrize(
    ("file", "old", "new", "rule"),
    [
        pytest.param(*case, id=name)
        for name, case in {
            "a field gets another number": (
                WATCH,
                r"bool live_text = 4",
                "bool live_text = 40",
                "FIELD_NO_DELETE",
            ),
            "a field gets another name": (
                WATCH,
                r"bool live_text = 4",
                "bool live_texts = 4",
                "FIELD_SAME_NAME",
            ),
            "a field gets another name in JSON": (
                WATCH,
                r"bool live_text = 4",
                'bool live_text = 4 [json_name = "live"]',
                "FIELD_SAME_JSON_NAME",
            ),
            "a field gets another type": (
                WATCH,
                r"bool live_text = 4",
                "string live_text = 4",
                "FIELD_SAME_TYPE",
            ),
            "a field gets another type that is the same on the wire": (
                WATCH,
                r"uint32 tail = 3",
                "int32 tail = 3",
                "FIELD_SAME_TYPE",
            ),
            "a field becomes one of many": (
                INPUT,
                r"string command_id = 10",
                "repeated string command_id = 10",
                "FIELD_SAME_CARDINALITY",
            ),
            "a field tells whether it is there": (
                INPUT,
                r"string command_id = 10",
                "optional string command_id = 10",
                "FIELD_SAME_CARDINALITY",
            ),
            "a field is taken away": (
                INPUT,
                r"  string command_id = 10;\n",
                "",
                "FIELD_NO_DELETE",
            ),
            "a field is taken away and its number and name are reserved": (
                INPUT,
                r"string command_id = 10;",
                'reserved 10; reserved "command_id";',
                "FIELD_NO_DELETE",
            ),
            "a field leaves its oneof": (
                WATCH,
                r"(  oneof start \{.*?)    uint32 tail = 3;\n  \}",
                r"\1  }\n  uint32 tail = 3;",
                "FIELD_SAME_ONEOF",
            ),
            "a field joins a oneof": (
                WATCH,
                r"  \}\n(.{0,400})  string log_id = 4 (.*?\];)",
                r"\1  string log_id = 4 \2\n  }",
                "FIELD_SAME_ONEOF",
            ),
            "a oneof gets another name": (
                WATCH,
                r"oneof start \{",
                "oneof begin {",
                "ONEOF_NO_DELETE",
            ),
            "a value of an enum is taken away": (
                INPUT,
                r"  CANCEL_REASON_KILLED = 6;\n",
                "",
                "ENUM_VALUE_NO_DELETE",
            ),
            "a value of an enum gets another number": (
                INPUT,
                r"CANCEL_REASON_KILLED = 6",
                "CANCEL_REASON_KILLED = 60",
                "ENUM_VALUE_NO_DELETE",
            ),
            "a value of an enum gets another name": (
                RECEIPT,
                r"OUTCOME_STATE_UNKNOWN = 4",
                "OUTCOME_STATE_UNSURE = 4",
                "ENUM_VALUE_SAME_NAME",
            ),
            "a message is taken away": (
                WATCH,
                r"SnapshotEnd snapshot_end(.*)message SnapshotEnd ",
                r"SnapshotOver snapshot_end\1message SnapshotOver ",
                "MESSAGE_NO_DELETE",
            ),
            "a method is taken away": (
                SERVICE,
                r"  rpc Kill\(KillRequest\) returns \(KillResponse\);\n",
                "",
                "RPC_NO_DELETE",
            ),
            "a method gets another name": (SERVICE, r"rpc Kill\(", "rpc End(", "RPC_NO_DELETE"),
            "a method takes another request": (
                SERVICE,
                r"rpc Kill\(KillRequest\)",
                "rpc Kill(StopRequest)",
                "RPC_SAME_REQUEST_TYPE",
            ),
            "a method gives another answer": (
                SERVICE,
                r"returns \(KillResponse\)",
                "returns (StopResponse)",
                "RPC_SAME_RESPONSE_TYPE",
            ),
            "a method answers by a stream": (
                SERVICE,
                r"returns \(KillResponse\)",
                "returns (stream KillResponse)",
                "RPC_SAME_SERVER_STREAMING",
            ),
            "a method answers by a stream no longer": (
                SERVICE,
                r"returns \(stream WatchResponse\)",
                "returns (WatchResponse)",
                "RPC_SAME_SERVER_STREAMING",
            ),
            "a method takes a stream": (
                SERVICE,
                r"\(KillRequest\)",
                "(stream KillRequest)",
                "RPC_SAME_CLIENT_STREAMING",
            ),
            "a service gets another name": (
                SERVICE,
                r"^service SessionService \{",
                "service SessionsService {",
                "SERVICE_NO_DELETE",
            ),
            "the stubs of Go get another path": (
                SERVICE,
                r"^package bridle.v1;",
                'package bridle.v1;\noption go_package = "elsewhere";',
                "FILE_SAME_GO_PACKAGE",
            ),
            "between host and control, a field gets another number": (
                LINK,
                r"Heartbeat heartbeat = 5",
                "Heartbeat heartbeat = 50",
                "FIELD_NO_DELETE",
            ),
            "between host and control, a method is taken away": (
                LINK,
                r"rpc Enroll\(",
                "rpc Enrol(",
                "RPC_NO_DELETE",
            ),
        }.items()
    ],
)
def test_a_change_that_breaks_callers_is_refused(
    contract: Path, file: str, old: str, new: str, rule: str
) -> None:
    change(contract, file, old, new)
    assert (file, rule) in check(contract)


def test_a_file_that_goes_is_missed(contract: Path) -> None:
    (contract / "proto" / LINK).unlink()
    assert check(contract) == {("", "FILE_NO_DELETE")}


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        pytest.param(*case, id=name)
        for name, case in {
            "a new field": (INPUT, r"(string command_id = 10;)", r"\1\n  string later = 900;"),
            "a new field in a oneof": (
                WATCH,
                r"(uint32 tail = 3;)",
                r"\1\n    uint32 later = 900;",
            ),
            "a new value of an enum": (
                RECEIPT,
                r"(OUTCOME_STATE_UNKNOWN = 4;)",
                r"\1\n  OUTCOME_STATE_LATER = 900;",
            ),
            "a new method": (
                SERVICE,
                r"(rpc Kill\(KillRequest\))",
                r"rpc Later(KillRequest) returns (KillResponse);\n  \1",
            ),
            "a new message": (WATCH, r"^(message SnapshotEnd )", r"message Later {}\n\n\1"),
            "a new service": (
                SERVICE,
                r"^(service SessionService )",
                r"service LaterService {}\n\n\1",
            ),
            "a deprecated field": (
                INPUT,
                r"string command_id = 10;",
                "string command_id = 10 [deprecated = true];",
            ),
            "between host and control, something new to say": (
                LINK,
                r"(Heartbeat heartbeat = 5;)",
                r"\1\n    Heartbeat later = 900;",
            ),
        }.items()
    ],
)
def test_what_is_only_added_passes(contract: Path, file: str, old: str, new: str) -> None:
    change(contract, file, old, new)
    assert check(contract) == set()
