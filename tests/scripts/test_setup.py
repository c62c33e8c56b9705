"""Set-up takes what the user has: their uv, their pip settings; and says what is missing."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from scripts import setup


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A user with an empty home, without any setting for pip or uv."""
    for name in list(os.environ):
        if name.startswith(("PIP_", "UV_", "XDG_", "SSL_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "prefix"))
    monkeypatch.setattr(setup, "TOOLS", tmp_path / "tools")
    # The machine's own /etc/pip.conf is none of the test's business.
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return tmp_path


def write_pip_conf(home: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = home / "pip.conf"
    path.write_text(text)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(path))


def test_pip_settings_from_a_file_reach_uv(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheels = bare / "wheels"
    wheels.mkdir()
    text = f"""
[global]
index-url = https://user:p%40ss@index.example/simple
extra-index-url =
    https://one.example/simple
    https://two.example/simple
cert = /etc/own.pem
[install]
find-links = {wheels} {bare}/not-there https://links.example/
trusted_host = one.example
"""
    write_pip_conf(bare, text, monkeypatch)
    env = setup.uv_environment()
    assert env["UV_DEFAULT_INDEX"] == "https://user:p%40ss@index.example/simple"
    assert env["UV_INDEX"] == "https://one.example/simple https://two.example/simple"
    assert env["UV_INDEX_STRATEGY"] == "unsafe-best-match"
    assert env["UV_FIND_LINKS"] == f"{wheels},https://links.example/"
    assert env["UV_INSECURE_HOST"] == "one.example"
    assert env["SSL_CERT_FILE"] == "/etc/own.pem"


def test_pip_variables_win_over_pip_files(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pip_conf(bare, "[global]\nindex-url = https://file.example/simple\n", monkeypatch)
    monkeypatch.setenv("PIP_INDEX_URL", "https://variable.example/simple")
    assert setup.uv_environment()["UV_DEFAULT_INDEX"] == "https://variable.example/simple"


@pytest.mark.parametrize("name", ["UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_CONFIG_FILE"])
def test_settings_for_uv_itself_win_over_those_for_pip(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "https://pip.example/simple")
    monkeypatch.setenv(name, "https://uv.example/simple")
    assert "UV_INDEX" not in setup.uv_environment()


def test_an_unreadable_pip_file_is_ignored(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pip_conf(bare, "index-url before any section\n\0", monkeypatch)
    assert "UV_DEFAULT_INDEX" not in setup.uv_environment()


def test_a_home_that_is_not_there_moves_the_cache_into_the_project(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bare / "file").touch()
    monkeypatch.setenv("HOME", str(bare / "file" / "home"))
    assert setup.uv_environment()["UV_CACHE_DIR"] == str(setup.TOOLS / "cache")


def test_uv_from_path_is_taken(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uv = bare / "bin" / "uv"
    uv.parent.mkdir()
    uv.write_text("#!/bin/sh\n")
    uv.chmod(0o755)
    monkeypatch.setenv("PATH", str(uv.parent))
    assert setup.find_uv(sys.executable) == str(uv)


def fake_python(folder: Path, refuses: str) -> str:
    """A python that cannot run the modules named in the pattern, and does nothing for others."""
    path = folder / "python"
    path.write_text(f'#!/bin/sh\necho "$*" >> "$0.calls"\ncase "$2" in {refuses}) exit 1;; esac\n')
    path.chmod(0o755)
    return str(path)


def test_pip_without_venv_still_gets_uv(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    python = fake_python(bare, refuses="venv")
    setup.fetch_uv(python)
    assert f"--target {bare}/tools/uv uv" in Path(f"{python}.calls").read_text()


def test_neither_venv_nor_pip_names_the_package_that_is_missing(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    with pytest.raises(setup.SetupError, match="sudo apt install python3-venv"):
        setup.fetch_uv(fake_python(bare, refuses="venv|pip"))


def test_a_python_that_is_too_old_is_told_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "/not-there")
    monkeypatch.setattr(sys, "version_info", (3, 9, 2, "final", 0))
    with pytest.raises(setup.SetupError, match=r"3\.9\.2 is too old, 3\.11 is needed: sudo apt"):
        setup.suitable_python()


def test_lock_files_name_no_address_and_pin_every_package_by_hash() -> None:
    for path in (setup.LOCK, setup.GENERATOR_LOCK):
        text = path.read_text()
        assert "://" not in text
        pins = [line for line in text.splitlines() if line and line[0] not in " #"]
        assert all(" \\" in line and "==" in line for line in pins)


def test_nothing_is_done_twice(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    for name in ("VENV", "GENERATOR"):
        environment = bare / name
        (environment / "bin").mkdir(parents=True)
        (environment / "bin" / "python").touch()
        monkeypatch.setattr(setup, name, environment)
    monkeypatch.setattr(setup, "install", done.append)
    setup.main([])
    setup.main([])
    assert len(done) == 1
