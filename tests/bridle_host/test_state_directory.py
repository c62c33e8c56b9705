"""The state directory: one process at a time, nobody else's eyes, a credential."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from bridle_host.state_directory import Credential, StateDirectory, StateError

CREDENTIAL = Credential("host-1", "laptop", "default", "brh_secret")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_directory_is_for_its_owner_only_also_where_it_was_not(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "state"
    with StateDirectory.open(path) as state:
        state.save_credential(CREDENTIAL)
        assert mode(path) == mode(state.runs) == 0o700
        assert mode(path / "credential") == mode(path / "lock") == 0o600
    path.chmod(0o755)
    with StateDirectory.open(path):
        assert mode(path) == 0o700


def test_two_hosts_cannot_use_one_directory(tmp_path: Path) -> None:
    with StateDirectory.open(tmp_path), pytest.raises(StateError, match="in use by another"):
        StateDirectory.open(tmp_path)
    with StateDirectory.open(tmp_path):
        pass


def test_the_lock_of_a_process_that_was_killed_is_free(tmp_path: Path) -> None:
    holder = (
        "import sys, time; from pathlib import Path;"
        "from bridle_host.state_directory import StateDirectory;"
        "state = StateDirectory.open(Path(sys.argv[1])); print(flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(tmp_path)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(StateError, match="in use"):
            StateDirectory.open(tmp_path)
        process.kill()
    with StateDirectory.open(tmp_path):
        pass


def test_the_lock_is_not_inherited_by_what_the_host_starts(tmp_path: Path) -> None:
    with StateDirectory.open(tmp_path):
        child = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        with StateDirectory.open(tmp_path):
            pass
    finally:
        child.kill()
        child.wait()


def test_a_credential_comes_back_and_its_secret_is_never_printed(tmp_path: Path) -> None:
    with StateDirectory.open(tmp_path) as state:
        assert state.credential() is None
        state.save_credential(CREDENTIAL)
        assert state.credential() == CREDENTIAL
        assert "brh_secret" not in repr(state.credential())
        assert sorted(os.listdir(tmp_path)) == ["credential", "lock"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"host_id": "x"}', "\udcff"])
def test_a_damaged_credential_is_one_clear_line_and_left_alone(tmp_path: Path, text: str) -> None:
    with StateDirectory.open(tmp_path) as state:
        raw = text.encode(errors="surrogateescape")
        (tmp_path / "credential").write_bytes(raw)
        with pytest.raises(StateError, match="damaged; remove it") as caught:
            state.credential()
        assert "\n" not in str(caught.value)
        assert (tmp_path / "credential").read_bytes() == raw


def test_a_credential_that_cannot_be_read_or_written_is_one_clear_line(tmp_path: Path) -> None:
    with StateDirectory.open(tmp_path) as state:
        (tmp_path / "credential").mkdir()
        with pytest.raises(StateError, match="can't be read"):
            state.credential()
        with pytest.raises(StateError, match="can't be written"):
            state.save_credential(CREDENTIAL)
        assert sorted(os.listdir(tmp_path)) == ["credential", "lock"]


def test_a_directory_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match="can't be used"):
        StateDirectory.open(tmp_path / "file" / "state")


def test_a_directory_of_another_user_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(StateError, match="belongs to another user"):
        StateDirectory.open(tmp_path)
