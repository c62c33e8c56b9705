"""Get ready what the clients in other languages are made with: Go, TypeScript, Java.

The languages themselves are the user's to install; what comes from their package indexes (the
generators of the stubs, the libraries) is fetched by their own tools, pinned by clients/go,
clients/typescript and clients/java, and from where the user's own settings say. Nothing is done
where everything is in its place. Standard library only. Called by generate.py and by the tests of
the clients.
"""

from __future__ import annotations

import hashlib
import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CLIENTS = ROOT / "clients"
TOOLS = ROOT / ".tools" / "clients"

#: Each language's program, the oldest version that serves, and the way to get it.
NEEDED = {
    "go": ("go", ("version",), (1, 26), "see go.dev/doc/install"),
    "node": ("node", ("--version",), (20,), "see nodejs.org, version 20 or later"),
    "npm": ("npm", ("--version",), (9,), "it comes with Node"),
    "java": ("javac", ("--version",), (17,), "sudo apt install openjdk-17-jdk-headless"),
    "maven": ("mvn", ("--version",), (3, 8), "sudo apt install maven"),
}


class MissingError(Exception):
    """A language can't be had here; the text is one line for the user, with the way out."""


def version_of(output: str) -> tuple[int, ...]:
    """The first version that a program's words tell: (1, 26, 8); () where none does."""
    found = re.search(r"(\d+(?:\.\d+)+|\d+)", re.sub(r"\x1b\[[0-9;]*m", "", output))
    return tuple(int(part) for part in found.group().split(".")) if found else ()


def need(name: str) -> None:
    """Raises MissingError where a program is not there, or too old."""
    program, question, oldest, hint = NEEDED[name]
    if shutil.which(program) is None:
        raise MissingError(f"{program} is not on PATH ({hint})")
    done = subprocess.run([program, *question], capture_output=True, text=True, check=False)
    have = version_of(done.stdout)
    if have < oldest:
        shown, wanted = (".".join(map(str, version)) for version in (have, oldest))
        raise MissingError(f"{program} {shown} is too old, {wanted} is needed ({hint})")


def run(command: list[str], folder: Path) -> None:
    """Run a package tool quietly. Raises MissingError with its last line."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines() or ["no reason given"]
        raise MissingError(f"{command[0]} {command[1]} failed: {lines[-1]}")


def once(mark: Path, sources: list[Path], work: Callable[[], None]) -> None:
    """Do the work unless it was done for just these sources."""
    state = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    if mark.is_file() and mark.read_text() == state:
        return
    work()
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.write_text(state)


def prepare_go() -> None:
    need("go")
    home, tools = CLIENTS / "go" / "tools", TOOLS / "go"
    command = ["go", "build", "-o", f"{tools}/", "tool"]
    once(tools / ".done", [home / "go.mod", home / "go.sum"], lambda: run(command, home))


def prepare_typescript() -> None:
    need("node")
    need("npm")
    home = CLIENTS / "typescript"
    sources = [home / "package.json", home / "package-lock.json"]
    once(home / "node_modules" / ".done", sources, lambda: run(["npm", "ci", "--silent"], home))


def prepare_java() -> None:
    need("java")
    need("maven")
    home, tools = CLIENTS / "java", TOOLS / "java"
    machine = {"x86_64": "linux-x86_64", "aarch64": "linux-aarch_64"}.get(platform.machine())
    if machine is None:
        raise MissingError(f"no generator of Java stubs for {platform.machine()}")

    def fetch() -> None:
        places = [f"-Dgenerators={tools}", f"-Dplatform={machine}"]
        run(["mvn", "-q", "-B", "dependency:copy@generators", *places], home)
        for program in tools.glob("*.exe"):
            program.chmod(0o755)

    once(tools / ".done", [home / "pom.xml"], fetch)


def build_go() -> Sequence[str]:
    """The command of the runner of the interoperability suite, made anew; so with the others."""
    prepare_go()
    runner = TOOLS / "go" / "interop"
    run(["go", "build", "-o", str(runner), "./internal/interop"], CLIENTS / "go")
    return [str(runner)]


def build_typescript() -> Sequence[str]:
    prepare_typescript()
    run(["npm", "run", "--silent", "interop"], CLIENTS / "typescript")
    return ["node", str(TOOLS / "typescript" / "node.mjs")]


def build_java() -> Sequence[str]:
    prepare_java()
    home, paths = CLIENTS / "java", TOOLS / "java" / "classpath"
    libraries = [f"-Dmdep.outputFile={paths}", "-Dmdep.includeScope=test"]
    run(["mvn", "-q", "-B", "test-compile", "dependency:build-classpath", *libraries], home)
    own = [str(home / "target" / name) for name in ("classes", "test-classes")]
    return ["java", "-cp", ":".join([*own, paths.read_text()]), "dev.bridle.interop.Runner"]


#: Language -> what makes it ready for `buf generate` with its clients/<language>/buf.gen.yaml.
PREPARE: Mapping[str, Callable[[], None]] = {
    "go": prepare_go,
    "typescript": prepare_typescript,
    "java": prepare_java,
}
