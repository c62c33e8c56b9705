"""Find a Chromium for the clients' suite, or get one that needs no root.

One on PATH goes first, if it runs. Else a package of npm's that holds the program itself, in
compressed form, with the libraries that it needs: it is had as everything else is, pinned by its
hash, by any user, and starts as quickly. (The packages of test tools fetch theirs from elsewhere,
in a script of their own; a distribution's need root.) It is Chromium without a window, for x86-64.
Standard library only. Called by the tests of the clients.
"""

from __future__ import annotations

import base64
import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from scripts import client_tools
from scripts.client_tools import MissingError

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
#: For Node 20; what is unpacked of it: the program, its libraries, and those of its renderer.
PACKAGE = "@sparticuz/chromium@143.0.4"
INTEGRITY = (
    "/6I7uQTRhRDD2/gGPQ1Gkf+Dqk0RYDACPJDZfSzz0OWk4JmUTonNHPXbrn6UIklOHlnDLf8xAAzkOZKB/cJpLA=="
)
ARCHIVES = ("al2023.tar", "swiftshader.tar")
HOME = client_tools.TOOLS / "browser"
HINT = "sudo apt install chromium"

#: Python 3.11 has no Brotli, and Node has.
INFLATE = """
const { createReadStream, createWriteStream } = require("node:fs");
const { createBrotliDecompress } = require("node:zlib");
const { pipeline } = require("node:stream");
const [from, to] = process.argv.slice(1);
pipeline(createReadStream(from), createBrotliDecompress(), createWriteStream(to), (error) => {
  if (error) throw error;
});
"""


@dataclass(frozen=True)
class Browser:
    """A program, and the variables that it needs beside those of this process."""

    program: str
    environment: Mapping[str, str] = field(default_factory=dict)

    def version(self) -> str:
        """What it says of itself. Raises MissingError where it doesn't run here."""
        try:
            done = subprocess.run(
                [self.program, "--version"],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
                env={**os.environ, **self.environment},
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise MissingError(f"{self.program} does not start: {error}") from error
        if done.returncode != 0:
            lines = done.stderr.strip().splitlines() or ["no reason given"]
            raise MissingError(f"{self.program} does not start: {lines[-1]}")
        return done.stdout.strip()


def chromium() -> Browser:
    """One that runs. Raises MissingError with what was tried."""
    for name in NAMES:
        if (found := shutil.which(name)) is not None and runs(browser := Browser(found)):
            return browser
    return packaged()


def runs(browser: Browser) -> bool:
    """Whether it starts: what is on PATH may merely point to a package that is not there."""
    try:
        browser.version()
    except MissingError:
        return False
    return True


def packaged() -> Browser:
    """That of the package, fetched and unpacked where it isn't yet."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise MissingError(f"no Chromium is on PATH ({HINT}), nor packaged for this machine")
    client_tools.need("node")
    client_tools.need("npm")
    browser = Browser(str(HOME / "chromium"), {"LD_LIBRARY_PATH": str(HOME / "lib")})
    with client_tools.alone():
        client_tools.once(HOME / ".done", [Path(__file__)], unpack)
    browser.version()
    return browser


def unpack() -> None:
    """Fetches the package into HOME, and leaves there what is needed of it."""
    shutil.rmtree(HOME, ignore_errors=True)
    (HOME / "lib").mkdir(parents=True)
    fetch = ["npm", "pack", "--loglevel=error", "--pack-destination", str(HOME), PACKAGE]
    client_tools.run(fetch, HOME)
    [package] = HOME.glob("*.tgz")
    if base64.b64encode(hashlib.sha512(package.read_bytes()).digest()).decode() != INTEGRITY:
        raise MissingError(f"{PACKAGE} is not what it was when it was chosen: its hash differs")
    extract = ["tar", "--no-same-owner", "-xf"]
    client_tools.run([*extract, package.name, "package/bin"], HOME)
    for name in ("chromium", *ARCHIVES):
        inflate = ["node", "-e", INFLATE, f"package/bin/{name}.br", name]
        client_tools.run(inflate, HOME)
    for name in ARCHIVES:
        # The one holds lib/…, the other what has to lie beside the program.
        client_tools.run([*extract, name], HOME)
        (HOME / name).unlink()
    (HOME / "chromium").chmod(0o755)
    package.unlink()
    shutil.rmtree(HOME / "package")
