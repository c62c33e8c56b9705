"""The drivers that a host has, by the names that users give."""

from __future__ import annotations

from bridle_host.drivers.acp import AcpFactory
from bridle_host.drivers.base import DriverFactory
from bridle_host.drivers.claude.factory import ClaudeFactory
from bridle_host.drivers.codex import CodexFactory
from bridle_host.drivers.exec import ExecFactory
from bridle_host.drivers.scripted import ScriptedFactory
from bridle_host.drivers.shell import ShellFactory


def factories() -> dict[str, DriverFactory]:
    """All of them; `probe` says which can be used on this machine."""
    made: tuple[DriverFactory, ...] = (
        ShellFactory(),
        ScriptedFactory(),
        ClaudeFactory(),
        CodexFactory(),
        ExecFactory(),
        AcpFactory(),
    )
    return {factory.name: factory for factory in made}
