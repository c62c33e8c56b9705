"""Names and paths that are meant to lead elsewhere are refused, or are only names."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import unicodedata
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from bridle import ArtifactNotFoundError, BridleError, Client
from bridle.v1 import identity_service_pb2, session_service_pb2
from bridle_control import validation
from bridle_core.errors import BridleError as CoreError
from bridle_core.errors import Reason
from bridle_host.containment import detect
from bridle_host.process import DirectoryMissingError
from bridle_host.run_processes import RunProcesses
from tests.bridle_control.serving import RunningControl, control_server, fails
from tests.contract.requests import About, own_methods, path_of, request_for
from tests.pair import Pair, running_pair
from tests.scenarios.support import kinds, log, output, turn_ends
from tests.support.driving import eventually

pb: Any = session_service_pb2
identity: Any = identity_service_pb2
METHODS = {method.name: method for method in own_methods()}

E_ACUTE = "\u00e9"
#: Names that lead elsewhere, that look like others, or that are too long.
NAMES = [
    *(
        "..",
        ".",
        "../x",
        "../../etc/passwd",
        "x/../y",
        "/etc/passwd",
        "//x",
        "x/y",
        "x\\y",
        "~root",
    ),
    *(
        "x\0y",
        "\0",
        "x\ny",
        "x\r",
        "x\t",
        "-rf",
        "--help",
        "x-",
        " x",
        "x ",
        "",
        "X",
        "xY",
        "x_y",
        "x.y",
    ),
    *("$(id)", "`id`", "x;id", "x|y", "%2e%2e%2f", "x%00", "*", "?", "CON", "x:y", "x@y"),
    unicodedata.normalize("NFC", "caf" + E_ACUTE),
    unicodedata.normalize("NFD", "caf" + E_ACUTE),
    *(
        "x\u202ey",
        "x\u200by",
        "\uff0e\uff0e",
        "\u0445",
        "x\u0000",
        "\x1b[2J",
        "x" * 64,
        "x" * 255,
        "x" * 4096,
    ),
]
SLUGS = [("StartSession", "slug"), ("StartSession", "agent"), ("CreateWorkspace", "name")]


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[RunningControl]:
    async with control_server(tmp_path / "store") as running:
        yield running


async def test_no_name_that_leads_elsewhere_is_taken_for_one(control: RunningControl) -> None:
    refused = 0
    for method, field in SLUGS:
        for name in NAMES:
            request: Any = request_for(METHODS[method], About())
            setattr(request, field, name)
            call: Any = control.channel.unary_unary(path_of(METHODS[method]))
            found = await fails(call(request.SerializeToString(), metadata=control.metadata))
            assert found.code is grpc.StatusCode.INVALID_ARGUMENT, (method, field, name, found)
            assert found.fields[0][0] == field
            refused += 1
    # Where a name only looks something up, what is not one is not there.
    for method in ("GetSession", "Kill", "DeleteSession", "ListEvents"):
        for name in NAMES:
            request = request_for(METHODS[method], About(slug=name or "-"))
            call = control.channel.unary_unary(path_of(METHODS[method]))
            found = await fails(call(request.SerializeToString(), metadata=control.metadata))
            assert found.code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)
            refused += 1
    assert refused > 300


def test_a_name_that_is_no_utf_8_is_no_name() -> None:
    raw = b"\x1a\x03x\xff/"  # slug: "x\xff/"
    with pytest.raises(Exception, match=r"."):
        pb.StartSessionRequest.FromString(raw)


@pytest.mark.parametrize(
    "directory",
    [
        *("relative", "./x", "../x", "~", "-x", "x\0", "/x\0/y", "/x\ny", "/x\r"),
        *("/" + "x" * 4096, "C:\\x", "file:///etc"),
    ],
)
def test_a_directory_is_absolute_and_one_line_and_not_too_long(directory: str) -> None:
    request: Any = request_for(METHODS["StartSession"], About())
    request.directory = directory
    with pytest.raises(CoreError) as refused:
        validation.check(request)
    assert refused.value.reason is Reason.INVALID_REQUEST


# --- on the machine ----------------------------------------------------------------------------


@pytest.mark.parametrize("to", ["inside", "inside/deeper", "outside", "inside-too", "."])
async def test_an_agent_starts_only_where_its_directory_turns_out_to_lie_in_its_bound(
    tmp_path: Path, to: str
) -> None:
    for name in ("inside/deeper", "inside-too", "outside"):
        (tmp_path / name).mkdir(parents=True)
    link = tmp_path / "link"
    link.symlink_to(tmp_path / to)
    run = RunProcesses(
        "s", 1, tmp_path / "p", {}, detect(), bound=(str(link), str(tmp_path / "inside"))
    )
    try:
        if to.startswith("inside/") or to == "inside":
            await run.spawn(["/bin/true"], directory=str(link), environment={})
        else:
            with pytest.raises(DirectoryMissingError):
                await run.spawn(["/bin/true"], directory=str(link), environment={})
    finally:
        await run.end()


#: Points a link at one and the other in turn, as fast as it goes, until stdin ends.
SWAP = """
import os, select, sys
path, first, second = sys.argv[1:]
count = 0
while count % 64 or not select.select([0], [], [], 0)[0]:
    for target in (first, second):
        os.symlink(target, path + ".draft")
        os.rename(path + ".draft", path)
        count += 1
print(count)
"""


@contextmanager
def swapping(path: Path, first: Path, second: Path) -> Iterator[list[int]]:
    """While the block runs; how often it was swapped is in the list afterwards."""
    path.symlink_to(first)
    words = [sys.executable, "-I", "-S", "-c", SWAP, str(path), str(first), str(second)]
    count: list[int] = []
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as swapper:
        try:
            yield count
        finally:
            told, _ = swapper.communicate(timeout=30)
            count.append(int(told))


#: Where a process is, asked of the kernel: bash's own `pwd -P` follows the name that it came by.
WHERE = "env -u PWD /bin/pwd -P"


async def _start(agent: Client, slug: str, directory: Path) -> str:
    """The reason of the refusal; "" when the child runs."""
    try:
        await agent.start_session(slug, agent="shell", directory=str(directory), prompt=WHERE)
    except BridleError as error:
        return error.reason
    return ""


async def test_a_link_that_is_swapped_while_children_start_leads_none_of_them_outside(
    tmp_path: Path,
) -> None:
    # In memory where there is such a place: a disk that is busy with others' syncs swaps slowly.
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else str(tmp_path)
    with tempfile.TemporaryDirectory(dir=place) as name:
        await _swap(tmp_path, Path(name))


async def _swap(tmp_path: Path, place: Path) -> None:
    async with running_pair(tmp_path) as pair:
        work, outside = place / "work", place / "outside"
        inside = work / "inside"
        inside.mkdir(parents=True)
        outside.mkdir()
        (outside / "marker").write_text("untouched")
        made = await pair.client.start_session("parent", agent="shell", directory=str(work))
        secret = pair.home / "host" / "runs" / made.session.session_id / "1" / "token"
        await eventually(secret.exists)  # a start may be answered before
        with swapping(work / "swung", inside, outside) as count:
            async with Client(pair.address, token=secret.read_text().strip()) as agent:
                found = [
                    await _start(agent, f"child-{number}", work / "swung") for number in range(16)
                ]
        assert count[0] > 500
        assert set(found) <= {"", "NOT_ALLOWED", "DIRECTORY_MISSING", "START_FAILED"}
        for number, reason in enumerate(found):
            if not reason:
                said = await _said(pair, f"child-{number}")
                assert said in (str(inside), ""), said
        assert any(reason for reason in found), "no start ever met the outside"
        assert (outside / "marker").read_text() == "untouched"
        assert [path.name for path in outside.iterdir()] == ["marker"]
        await pair.kill_all()


async def _said(pair: Pair, slug: str) -> str:
    """What a child said of its directory; "" if it never ran."""
    async for event in pair.client.watch(slug):
        if event.WhichOneof("kind") in ("turn_ended", "session_ended"):
            break
    return output(await log(pair, slug)).strip()


NASTY = [
    "-rf",
    "a b",
    "a'b",
    'a"b',
    "$(touch marker)",
    "`id`",
    "a;b",
    "a\tb",
    "é",
    "e\u0301",
    "x" * 255,
]


async def test_directories_and_artifacts_of_any_name_are_only_names(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "marker").write_text("untouched")
    async with running_pair(tmp_path) as pair:
        for number, name in enumerate(NASTY):
            (pair.work / name).mkdir()
            directory = str(pair.work / name)
            prompt = "pwd -P"
            if number == 0:
                prompt += (
                    f"; cd $BRIDLE_ARTIFACTS; touch -- -rf 'a\nb' good; ln -s {outside} link"
                    f"; ln -s {outside}/marker file; mkdir sub; touch sub/x; mkfifo fifo"
                )
            slug = f"nasty-{number}"
            await pair.client.start_session(slug, agent="shell", directory=directory, prompt=prompt)
            await turn_ends(pair, slug, 1)
            assert output(await log(pair, slug)).splitlines()[0].encode() == os.fsencode(directory)
        assert not (pair.work / "marker").exists()
        stopped = await pair.client.stop("nasty-0", grace=0)
        await pair.client.wait(stopped.receipt)
        events = await log(pair, "nasty-0")
        assert "session_ended" in kinds(events)
        [told] = [event for event in events if event.WhichOneof("kind") == "artifacts_reported"]
        names = [artifact.name for artifact in told.artifacts_reported.artifacts]
        assert names == sorted(["-rf", "a\nb", "good", "sub/x"])
        assert (outside / "marker").read_text() == "untouched"
        for name in ("-rf", "a\nb", "sub/x", "good"):
            await _read(pair, name)
        for name in (
            *("../token", "/etc/passwd", "..", "link/marker", "x\0", "x" * 4096, "file", "fifo"),
            *("link", "sub", "./good", "sub//x", "sub/../good", "/good", "good/", " ", "."),
        ):
            async with asyncio.timeout(30):
                with pytest.raises(BridleError) as refused:
                    await _read(pair, name)
            assert refused.value.reason in ("INVALID_REQUEST", "ARTIFACT_NOT_FOUND"), name
        artifacts = pair.runs / stopped.receipt.session_id / "1" / "artifacts"
        await _swapped(pair, artifacts, outside / "marker")
        await pair.kill_all()


async def _swapped(pair: Pair, artifacts: Path, target: Path) -> None:
    """What was reported may be something else by the time that it is read."""
    name = artifacts / "good"
    name.unlink()
    for kind in ("nothing", "link", "directory", "pipe"):
        if kind == "link":
            name.symlink_to(target)
        elif kind == "directory":
            name.mkdir()
        elif kind == "pipe":
            os.mkfifo(name)
        async with asyncio.timeout(30):
            with pytest.raises(ArtifactNotFoundError):
                await _read(pair, "good")
        if name.is_dir() and not name.is_symlink():
            name.rmdir()
        else:
            name.unlink(missing_ok=True)
    (artifacts / "sub").rename(artifacts / "moved")
    (artifacts / "sub").symlink_to(artifacts / "moved")
    async with asyncio.timeout(30):
        with pytest.raises(ArtifactNotFoundError):
            await _read(pair, "sub/x")


async def _read(pair: Pair, name: str) -> None:
    """Reads an artifact, all of which are empty here."""
    async for piece in pair.client.read_artifact("nasty-0", name):
        raise AssertionError(f"{name!r} has {piece!r}")
