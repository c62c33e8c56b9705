"""Real agents, in exact versions: installs them into a cache outside of the clone, and says where.

    scripts/agents.py install [NAME…]    installs those that are missing, prints a line for each
    scripts/agents.py list               prints what is pinned

A version is always named whole, and read back from the program: asked for "the latest", npm under
an older Node takes an older agent and says nothing. The machine's own npm and its own settings are
used. Two runs at once wait for each other; an installation that was cut short is never taken for
one. Called by `make test-agents`, and by tests, which skip where `install` raises Missing.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

#: Seconds for one package; they have up to 500 MB.
INSTALL_TIMEOUT = 600.0
VERSION_TIMEOUT = 60.0


class Missing(Exception):  # noqa: N818 - it is a state of the machine, told as a reason to skip
    """The agent can't be had here; the text says why, in a line."""


@dataclass(frozen=True, slots=True)
class Pin:
    """An agent in one version.

    program: below node_modules; the first that exists is the one. reports: its `--version` says it
    (else the version is that of the package). node: the program is a script for Node.
    """

    name: str
    package: str
    version: str
    program: tuple[str, ...]
    reports: bool = True
    node: bool = False


@dataclass(frozen=True, slots=True)
class Installed:
    """An agent that is there. argv: how it is called, without any argument of its own."""

    name: str
    version: str
    argv: tuple[str, ...]
    directory: Path


PINS: Mapping[str, Pin] = {
    pin.name: pin
    for pin in (
        Pin(
            "claude",
            "@anthropic-ai/claude-code",
            "2.1.328",
            ("@anthropic-ai/claude-code/bin/claude.exe",),
        ),
        Pin(
            "codex",
            "@openai/codex",
            "0.169.0",
            # The vendored program, not the script in front of it: that needs Node at run time.
            tuple(
                f"{folder}@openai/codex-{system}/vendor/{triple}/{place}"
                for system, triple in (
                    ("linux-x64", "x86_64-unknown-linux-musl"),
                    ("linux-arm64", "aarch64-unknown-linux-musl"),
                )
                for place in ("bin/codex", "codex/codex")
                for folder in ("", "@openai/codex/node_modules/")
            ),
        ),
        Pin(
            "opencode",
            "opencode-ai",
            "1.18.33",
            (
                "opencode-ai/bin/opencode.exe",
                "opencode-linux-x64/bin/opencode",
                "opencode-linux-arm64/bin/opencode",
            ),
        ),
        Pin(
            "claude-agent-acp",
            "@agentclientprotocol/claude-agent-acp",
            "0.100.0",
            ("@agentclientprotocol/claude-agent-acp/dist/index.js",),
            reports=False,
            node=True,
        ),
        Pin(
            "codex-acp",
            "@agentclientprotocol/codex-acp",
            "2.6.0",
            ("@agentclientprotocol/codex-acp/dist/index.js",),
            reports=False,
            node=True,
        ),
    )
}


def cache() -> Path:
    """Where agents are kept: outside of any clone, the user's own."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "bridle" / "agents"


def install(name: str) -> Installed:
    """Installs the pinned agent unless it is there. Blocks, for minutes the first time.

    Raises Missing where it can't be had, with the reason. Raises KeyError for a name without a pin.
    """
    pin = PINS[name]
    place = cache() / f"{pin.name}-{pin.version}"
    if (found := _finished(pin, place)) is not None:
        return found
    npm = shutil.which("npm")
    if npm is None:
        raise Missing(f"{name} needs npm, which is not on PATH")
    with _locked(place):
        if (found := _finished(pin, place)) is not None:
            return found
        with tempfile.TemporaryDirectory(prefix=f".{place.name}-", dir=place.parent) as made:
            _npm(npm, pin, Path(made))
            installed = _located(pin, Path(made))
            version = _version(pin, installed, Path(made))
            (Path(made) / "installed.json").write_text(json.dumps({"version": version}))
            shutil.rmtree(place, ignore_errors=True)
            # Whole or not at all, for those who look without the lock.
            Path(made).rename(place)
            Path(made).mkdir()
    found = _finished(pin, place)
    assert found is not None
    return found


def _finished(pin: Pin, place: Path) -> Installed | None:
    try:
        version = json.loads((place / "installed.json").read_text())["version"]
        return Installed(pin.name, version, _located(pin, place), place)
    except (OSError, ValueError, KeyError, Missing):
        return None


def _npm(npm: str, pin: Pin, place: Path) -> None:
    words = ("install", "--no-audit", "--no-fund", "--loglevel=error", "--prefix", str(place))
    try:
        done = subprocess.run(
            [npm, *words, f"{pin.package}@{pin.version}"],
            capture_output=True,
            text=True,
            timeout=INSTALL_TIMEOUT,
            check=False,
            cwd=place,
        )
    except subprocess.TimeoutExpired:
        raise Missing(f"{pin.name}: npm took longer than {INSTALL_TIMEOUT:.0f} s") from None
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.startswith("npm error")]
        raise Missing(f"{pin.name}: npm could not install it: {' '.join(said[:3]) or '?'}"[:500])


def _located(pin: Pin, place: Path) -> tuple[str, ...]:
    for path in pin.program:
        program = place / "node_modules" / path
        if not program.is_file():
            continue
        if not pin.node:
            return (str(program),)
        node = shutil.which("node")
        if node is None:
            raise Missing(f"{pin.name} needs node, which is not on PATH")
        return (node, str(program))
    raise Missing(f"{pin.name}: {pin.package}@{pin.version} has no program for this machine")


def _version(pin: Pin, argv: Sequence[str], place: Path) -> str:
    """What is there, in its own words. Raises Missing if it is another one than the pinned."""
    if pin.reports:
        with tempfile.TemporaryDirectory(dir=place) as home:
            try:
                done = subprocess.run(
                    [*argv, "--version"],
                    capture_output=True,
                    text=True,
                    timeout=VERSION_TIMEOUT,
                    check=False,
                    env={"PATH": os.environ.get("PATH", ""), "HOME": home},
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                raise Missing(f"{pin.name} does not run here: {error}") from None
            said = (done.stdout + done.stderr).strip()
    else:
        package = place / "node_modules" / pin.package / "package.json"
        said = str(json.loads(package.read_text())["version"])
    if pin.version not in said.split() and pin.version not in said:
        raise Missing(f"{pin.name} {pin.version} was asked for, and says: {said[:200]}")
    return pin.version


@contextmanager
def _locked(place: Path) -> Iterator[None]:
    place.parent.mkdir(parents=True, exist_ok=True)
    with (place.parent / f".{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main(words: Sequence[str]) -> int:
    """The command; its exit status is the number of agents that can't be had, at most 9."""
    if words[:1] == ["list"]:
        for pin in PINS.values():
            print(f"{pin.name} {pin.version} ({pin.package})")
        return 0
    if words[:1] != ["install"] or (unknown := set(words[1:]) - PINS.keys()):
        print(f"agents: {unknown if words[:1] == ['install'] else __doc__}", file=sys.stderr)
        return 2
    missing = 0
    for name in words[1:] or PINS:
        try:
            found = install(name)
            print(f"{name} {found.version}: {' '.join(found.argv)}", flush=True)
        except Missing as why:
            missing += 1
            print(f"{name}: missing: {why}", flush=True)
    return min(missing, 9)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
