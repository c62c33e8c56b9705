"""What the host finds out about this machine, and says about it."""

from __future__ import annotations

import importlib.util
import os
import py_compile
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from bridle_host import containment, shim
from bridle_host.containment import (
    NAMES,
    Containment,
    ContainmentUnavailableError,
    Level,
    detect,
    find_cgroup,
    shim_command,
)
from tests.bridle_host.process_support import LEVELS


def test_the_strongest_level_that_works_is_found() -> None:
    found = detect()
    assert found.name == LEVELS[0].name
    assert found.reason


def test_each_level_can_be_asked_for() -> None:
    for level in LEVELS:
        assert detect(level.name).name == level.name


@pytest.mark.parametrize(
    "name", ["", "NONE", "pid_namespace", "SUBREAPER+", "SUBREAPER+X", "+CGROUP"]
)
def test_a_level_that_does_not_exist_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no containment level"):
        detect(name)


def test_a_level_that_does_not_work_is_refused_with_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(containment, "_try", lambda level, root: "the kernel says no")
    for name in NAMES:
        with pytest.raises(ContainmentUnavailableError, match=r"the kernel says no|no cgroup"):
            detect(name)
    with pytest.raises(ContainmentUnavailableError, match="no containment works here"):
        detect()


def test_what_does_not_work_is_left_out_and_the_reason_is_kept(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def only_subreaper(level: Level, root: Path | None) -> str:
        return "" if level is Level.SUBREAPER and root is None else "Operation not permitted"

    monkeypatch.setattr(containment, "_try", only_subreaper)
    with caplog.at_level("INFO", "bridle.host.containment"):
        found = detect()
    assert found.name == "SUBREAPER"
    assert "no PID namespace: Operation not permitted" in found.reason
    assert "no cgroup" in found.reason
    assert found.reason in caplog.text


def test_an_ordinary_user_gets_no_namespace_and_is_told_why(tmp_path: Path) -> None:
    command = shim_command("--probe", "--level=PID_NAMESPACE")
    if os.geteuid() == 0:
        drop = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--reuid=65534"]
        command = [*drop, "--clear-groups", *command]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "Operation not permitted" in done.stderr


def test_a_probe_of_a_cgroup_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    command = shim_command("--probe", "--level=SUBREAPER", f"--cgroup={tmp_path / 'a' / 'b'}")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "No such file" in done.stderr
    command = shim_command("--probe", "--level=SUBREAPER", f"--cgroup={tmp_path / 'plain'}")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0


def test_probes_leave_no_cgroup(monkeypatch: pytest.MonkeyPatch) -> None:
    # By its name: another process may be trying its own.
    tag = uuid.uuid4().hex[:12]
    tried: list[Path] = []
    monkeypatch.setattr("bridle_host.containment.secrets.token_hex", lambda size: tag)
    attempt = containment._try

    def noted(level: Level, root: Path | None) -> str:
        problem = attempt(level, root)
        if root is not None:
            tried.append(root / f"bridle-probe-{tag}")
        return problem

    monkeypatch.setattr(containment, "_try", noted)
    assert (detect().cgroup_root is None) or tried
    assert [path for path in tried if path.exists()] == []


MOUNT = "41 31 0:38 {root} {point} rw,relatime shared:9 - cgroup2 cgroup2 rw"


@pytest.mark.parametrize(
    ("own", "mounts", "found"),
    [
        ("0::/\n", MOUNT.format(root="/", point="/sys/fs/cgroup"), "/sys/fs/cgroup"),
        (
            "1:cpu:/x\n0::/user.slice/a.service\n",
            "1 2 0:3 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
            + MOUNT.format(root="/", point="/sys/fs/cgroup/unified"),
            "/sys/fs/cgroup/unified/user.slice/a.service",
        ),
        ("0::/docker/x/y\n", MOUNT.format(root="/docker/x", point="/cg"), "/cg/y"),
        ("0::/docker/x\n", MOUNT.format(root="/docker/x", point="/cg"), "/cg"),
        ("0::/a\n", MOUNT.format(root="/", point="/with\\040blank"), "/with blank/a"),
        ("0::/docker/xx\n", MOUNT.format(root="/docker/x", point="/cg"), None),
        ("0::/../outside\n", MOUNT.format(root="/", point="/cg"), None),
        ("1:cpu:/\n", MOUNT.format(root="/", point="/cg"), None),
        ("0::/\n", "1 2 0:3 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\nnonsense\n", None),
        ("", "", None),
    ],
)
def test_our_cgroup_is_found_by_its_mount(own: str, mounts: str, found: str | None) -> None:
    assert find_cgroup(own, mounts) == (None if found is None else Path(found))


def test_names_say_level_and_cgroup() -> None:
    assert Containment(Level.SUBREAPER, None, "").name == "SUBREAPER"
    assert Containment(Level.PID_NAMESPACE, Path("/x"), "").name == "PID_NAMESPACE+CGROUP"


def test_the_compiled_shim_is_used_only_while_it_is_current(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "shim.py"
    source.write_bytes(Path(shim.__file__).read_bytes())
    monkeypatch.setattr(shim, "__file__", str(source))
    assert shim_command("--x") == [
        *(sys.executable, "-I", "-S", "-X", "utf8"),
        str(source),
        "--x",
    ]
    compiled = py_compile.compile(
        str(source), doraise=True, invalidation_mode=py_compile.PycInvalidationMode.TIMESTAMP
    )
    assert compiled == importlib.util.cache_from_source(str(source))
    assert shim_command()[-1] == compiled
    done = subprocess.run(shim_command("--probe"), check=False, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    source.write_text("# newer")
    assert shim_command()[-1] == str(source)
