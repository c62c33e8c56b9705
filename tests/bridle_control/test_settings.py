"""Control's settings: flags over a file over defaults, and one line for what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bridle_control.settings import DEFAULT_LISTEN, Address, Settings, SettingsError, load


def refused(flags: dict[str, Any], config: Path | None = None) -> str:
    with pytest.raises(SettingsError) as raised:
        load(flags, config)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_the_defaults_are_loopback_and_plaintext() -> None:
    settings = load({"store": Path("/s")}, None)
    assert settings == Settings(store=Path("/s"), listen=Address.parse(DEFAULT_LISTEN))
    assert settings.listen.loopback


@pytest.mark.parametrize(
    ("text", "host", "port", "loopback"),
    [
        ("127.0.0.1:0", "127.0.0.1", 0, True),
        ("127.8.9.1:1", "127.8.9.1", 1, True),
        ("localhost:65535", "localhost", 65535, True),
        ("[::1]:7", "::1", 7, True),
        ("0.0.0.0:7", "0.0.0.0", 7, False),
        ("[::]:7", "::", 7, False),
        ("control.example:7", "control.example", 7, False),
        ("localhost.example:7", "localhost.example", 7, False),
        ("10.0.0.1:7", "10.0.0.1", 7, False),
    ],
)
def test_an_address_is_host_and_port(text: str, host: str, port: int, loopback: bool) -> None:
    address = Address.parse(text)
    assert (address.host, address.port, address.loopback) == (host, port, loopback)
    assert str(address) == text


@pytest.mark.parametrize(
    "text", ["", "7070", ":7070", "host:", "host:x", "host:-1", "host:65536", "::1:7", "host:٣"]
)
def test_what_is_no_address_is_told(text: str) -> None:
    assert "listen" in refused({"store": Path("/s"), "listen": text})


def test_a_public_address_needs_tls_or_force(tmp_path: Path) -> None:
    public = {"store": Path("/s"), "listen": "0.0.0.0:7070"}
    text = refused(public)
    assert "plaintext" in text
    assert "--insecure-public" in text
    assert load({**public, "insecure_public": True}, None).insecure_public
    tls = {"tls_cert": tmp_path / "c", "tls_key": tmp_path / "k"}
    assert load({**public, **tls}, None).tls_cert == tmp_path / "c"


def test_a_certificate_and_its_key_go_together() -> None:
    assert "go together" in refused({"store": Path("/s"), "tls_cert": Path("/c")})
    assert "go together" in refused({"store": Path("/s"), "tls_key": Path("/k")})


def test_flags_win_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    config = tmp_path / "control.yaml"
    config.write_text("store: /from/file\nlisten: 127.0.0.1:1\nlog-level: debug\n")
    settings = load({"listen": "127.0.0.1:2"}, config)
    assert settings.store == Path("/from/file")
    assert settings.listen.port == 2
    assert settings.log_level == "DEBUG"


def test_an_empty_file_sets_nothing(tmp_path: Path) -> None:
    config = tmp_path / "control.yaml"
    config.write_text("# nothing\n")
    assert load({"store": Path("/s")}, config).store == Path("/s")
    assert "store" in refused({}, config)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"store: [", "line 1: not YAML"),
        (b"store: /s\n\tlisten: x\n", "line 2: not YAML"),
        (b"\xff\xfe\x00", "not text in UTF-8"),
        (b"- store\n", "must be a mapping"),
        (b"just text", "must be a mapping"),
        (b"stor: /s\n", "unknown setting 'stor'"),
        (b"ready_fd: 3\n", "unknown setting 'ready_fd'"),
        (b"1: x\n", "unknown setting '1'"),
        (b"store: 3\n", "store: expected text"),
        (b"store: [a]\n", "store: expected text"),
        (b'store: "a\\0b"\n', "store: not a path"),
        (b"store: ~no-such-user/s\n", "no such user"),
        (b"store: /s\ninsecure_public: maybe\n", "insecure_public: expected true or false"),
        (b"store: /s\nlisten: 7070\n", "listen: expected text"),
        (b"store: /s\nlog_level: LOUD\n", "log-level is one of"),
        (b"!!python/object/apply:os.system ['true']\n", "not YAML"),
        (b"[" * 5000, ""),
    ],
)
def test_a_corrupt_file_is_told_in_one_line(tmp_path: Path, content: bytes, says: str) -> None:
    config = tmp_path / "control.yaml"
    config.write_bytes(content)
    assert says in refused({}, config)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    assert "No such file" in refused({}, tmp_path / "none.yaml")
    assert "Is a directory" in refused({}, tmp_path)


def test_the_ready_descriptor_is_a_number() -> None:
    assert load({"store": Path("/s"), "ready_fd": 3}, None).ready_fd == 3
    assert "ready_fd" in refused({"store": Path("/s"), "ready_fd": "x"})
    assert "ready_fd" in refused({"store": Path("/s"), "ready_fd": True})


def test_the_audit_log_is_in_the_store_unless_another_place_is_named(tmp_path: Path) -> None:
    config = tmp_path / "control.yaml"
    config.write_text("audit-log: /var/log/bridle.jsonl\naudit-reads: true\n")
    plain, named = load({"store": tmp_path}, None), load({"store": tmp_path}, config)
    assert (plain.audit_path, plain.audit_reads) == (tmp_path / "audit.jsonl", False)
    assert (named.audit_path, named.audit_reads) == (Path("/var/log/bridle.jsonl"), True)
