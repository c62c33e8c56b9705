"""Flags over the environment over the files of the project over the user's; secrets stay put."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from bridle import SettingsError
from bridle.credentials import Credentials, forget, store
from bridle.settings import (
    DEFAULT_ADDRESS,
    Places,
    Settings,
    is_loopback,
    load,
    normal_address,
)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "project" / "deep" / "down").mkdir(parents=True)
    return tmp_path / "project"


def loaded(home: Path, directory: Path, environ: dict[str, str] | None = None) -> Settings:
    return load(directory=directory, environ={"BRIDLE_HOME": str(home), **(environ or {})})


def test_without_anything_it_is_the_default_address_and_no_token(home: Path, project: Path) -> None:
    found = loaded(home, project)
    assert (found.address, found.workspace, found.token()) == (DEFAULT_ADDRESS, "", None)


def test_each_layer_is_stronger_than_the_next(home: Path, project: Path) -> None:
    environ = {"BRIDLE_HOME": str(home)}

    def workspace(flag: str = "") -> str:
        here = project / "deep" / "down"
        return load(workspace=flag, directory=here, environ=environ).workspace

    (home / "settings.yaml").write_text("workspace: user\n")
    assert workspace() == "user"
    (project / "bridle.yaml").write_text("workspace: project\n")
    assert workspace() == "project"
    (project / "deep" / "bridle.local.yaml").write_text("workspace: local\n")
    assert workspace() == "local"
    environ["BRIDLE_WORKSPACE"] = "environment"
    assert workspace() == "environment"
    assert workspace("flag") == "flag"


def test_the_nearest_file_counts(home: Path, project: Path) -> None:
    (project / "bridle.yaml").write_text("workspace: far\n")
    (project / "deep" / "bridle.yaml").write_text("workspace: near\n")
    assert loaded(home, project / "deep" / "down").workspace == "near"


def test_the_address_of_the_last_login_is_the_current_one(home: Path, project: Path) -> None:
    store(home / "credentials.json", "127.0.0.1:1", "brt_one")
    store(home / "credentials.json", "127.0.0.1:2", "brt_two")
    found = loaded(home, project)
    assert (found.address, found.token()) == ("127.0.0.1:2", "brt_two")
    chosen = loaded(home, project, {"BRIDLE_ADDRESS": "localhost:1"})
    assert (chosen.address, chosen.token()) == ("127.0.0.1:1", "brt_one")


# --- a project may be anybody's --------------------------------------------------------------


@pytest.mark.parametrize("name", ["bridle.yaml", "bridle.local.yaml"])
def test_a_project_cannot_send_any_token_to_its_own_address(
    home: Path, project: Path, tmp_path: Path, name: str
) -> None:
    store(home / "credentials.json", "127.0.0.1:7420", "brt_mine")
    (tmp_path / "token").write_text("brt_file")
    (project / name).write_text("address: evil.example:443\n")
    assert loaded(home, project).token() is None
    assert loaded(home, project, {"BRIDLE_TOKEN": "brt_environment"}).token() is None
    file = {"BRIDLE_TOKEN_FILE": str(tmp_path / "token")}
    assert loaded(home, project, file).token() is None


def test_a_project_can_choose_among_the_addresses_that_the_user_logged_in_to(
    home: Path, project: Path
) -> None:
    store(home / "credentials.json", "team.example:443", "brt_team")
    store(home / "credentials.json", "127.0.0.1:7420", "brt_mine")
    (project / "bridle.yaml").write_text("address: team.example:443\n")
    found = loaded(home, project, {"BRIDLE_TOKEN": "brt_environment"})
    assert (found.address, found.token()) == ("team.example:443", "brt_team")


@pytest.mark.parametrize("key", ["insecure: true", "token: brt_x", "token_file: /etc/shadow"])
def test_a_project_cannot_say_what_only_the_user_may(home: Path, project: Path, key: str) -> None:
    (project / "bridle.yaml").write_text(f"{key}\n")
    with pytest.raises(SettingsError, match=r"bridle\.yaml:1: .*unknown field"):
        loaded(home, project)


def test_the_environments_token_goes_to_an_address_of_the_user(home: Path, project: Path) -> None:
    environ = {"BRIDLE_TOKEN": "brt_environment", "BRIDLE_ADDRESS": "10.0.0.1:1"}
    assert loaded(home, project, environ).token() == "brt_environment"


# --- inside a session --------------------------------------------------------------------------


def test_inside_a_session_only_its_own_identity_is_used(home: Path, tmp_path: Path) -> None:
    store(home / "credentials.json", "127.0.0.1:5", "brt_user")
    (tmp_path / "bridle.yaml").write_text("address: 127.0.0.1:5\n")
    (tmp_path / "token").write_text("brs_first\n")
    environ = {
        "BRIDLE_SESSION": "me",
        "BRIDLE_TOKEN_FILE": str(tmp_path / "token"),
        "BRIDLE_ADDRESS": "127.0.0.1:9",
        "BRIDLE_WORKSPACE": "team",
        "BRIDLE_TOKEN": "brt_other",
    }
    found = loaded(home, tmp_path, environ)
    assert (found.address, found.workspace, found.session) == ("127.0.0.1:9", "team", "me")
    assert found.token() == "brs_first"
    (tmp_path / "token").write_text("brs_second\n")
    assert found.token() == "brs_second"
    with pytest.raises(SettingsError, match="inside a session"):
        load(address="127.0.0.1:5", directory=tmp_path, environ=environ)


# --- what is wrong is told in one line ---------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("workspace: [\n", ":2:1: "),
        ("agent: shell\nworkspace: 7\n", ':2: workspace: expected "str | null", got "int"'),
        ("agent: shell\nadress: x:1\n", ':2: it contains unknown field "adress"; known are '),
        ("- one\n", ':1: expected "object", got "array"'),
        ("just text\n", ':1: expected "object", got "str"'),
        ("a: &a [*a]\n", ":1: "),
        ("[" * 20_000, ": "),
        ("address: nowhere\n", "'nowhere' is no address"),
        ("!!python/object/apply:os.system ['true']\n", ":1:1: "),
        ("x" * 70_000, "too large"),
    ],
)
def test_a_corrupt_file_gives_one_line_with_the_file_and_the_place(
    home: Path, project: Path, text: str, told: str
) -> None:
    (project / "bridle.yaml").write_text(text)
    with pytest.raises(SettingsError) as raised:
        loaded(home, project)
    line = str(raised.value)
    assert line.startswith(f"{project / 'bridle.yaml'}:")
    assert told in line
    assert "\n" not in line


def test_a_file_that_is_no_text_is_told(home: Path, project: Path) -> None:
    (project / "bridle.yaml").write_bytes(b"workspace: \xff\n")
    with pytest.raises(SettingsError, match="not UTF-8 at byte 11"):
        loaded(home, project)


def test_an_empty_file_says_nothing(home: Path, project: Path) -> None:
    (project / "bridle.yaml").write_text("# nothing\n")
    assert loaded(home, project).workspace == ""


@pytest.mark.parametrize(
    "address", ["", "host", ":1", "host:", "host:x", "host:99999", "http://host:1", "a b:1", "h:१"]
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(SettingsError, match="is no address"):
        normal_address(address, "--address")


def test_addresses_have_one_form() -> None:
    assert normal_address(" LocalHost:080 ", "x") == "127.0.0.1:80"
    assert normal_address("[::1]:5", "x") == "[::1]:5"
    assert [is_loopback(a) for a in ("127.0.0.1:1", "[::1]:1", "127.9.9.9:1")] == [True] * 3
    assert not any(is_loopback(a) for a in ("10.0.0.1:1", "localhost.example:1", "[::]:1"))


# --- places and credentials --------------------------------------------------------------------


def test_one_variable_moves_everything(tmp_path: Path) -> None:
    moved = Places.find({"BRIDLE_HOME": str(tmp_path)})
    for path in (moved.credentials, moved.store, moved.host, moved.log("host")):
        assert path.is_relative_to(tmp_path)
    usual = Places.find({})
    assert not usual.credentials.is_relative_to(tmp_path)


def test_credentials_are_for_the_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "credentials.json"
    store(path, "a:1", "brt_x")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    path.chmod(0o640)
    with pytest.raises(SettingsError, match="chmod 600"):
        Credentials.read(path)


def test_the_lock_of_the_credentials_is_for_the_user_alone(tmp_path: Path) -> None:
    store(tmp_path / "credentials.json", "127.0.0.1:7420", "brt_x")
    assert (tmp_path / "credentials.lock").stat().st_mode & 0o777 == 0o600


def test_a_token_that_is_forgotten_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "credentials.json"
    store(path, "a:1", "brt_a")
    store(path, "b:1", "brt_b")
    assert forget(path, "b:1")
    assert not forget(path, "b:1")
    assert Credentials.read(path) == Credentials("", {"a:1": "brt_a"})


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"tokens": 3}', '{"tokens": {"a": 1}}', '{"x": "\xff']
)
def test_a_corrupt_credentials_file_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "credentials.json"
    path.touch(0o600)
    path.write_text(text)
    with pytest.raises(SettingsError) as raised:
        Credentials.read(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)
