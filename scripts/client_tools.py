"""Get ready what the clients in other languages are made with: Go, TypeScript, Java.

The languages themselves are the user's to install; what comes from their package indexes (the
generators of the stubs, the libraries) is fetched by their own tools, pinned by clients/go,
clients/typescript and clients/java, and from where the user's own settings say. Nothing is done
where everything is in its place. Standard library only. Called by generate.py and by the tests of
the clients.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import pwd
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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


#: Colours, which some tools use in a pipe, too.
ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


class MissingError(Exception):
    """A language can't be had here; the text is one line for the user, with the way out."""


def version_of(output: str) -> tuple[int, ...]:
    """The first version that a program's words tell: (1, 26, 8); () where none does."""
    found = re.search(r"(\d+(?:\.\d+)+|\d+)", ESCAPES.sub("", output))
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
    """Run a package tool quietly. Raises MissingError with what it says of the reason."""
    done = _ran(command, folder)
    if done.returncode != 0:
        said = ESCAPES.sub("", f"{done.stderr}\n{done.stdout}").splitlines()
        lines = [line.strip() for line in said if line.strip()] or ["no reason given"]
        errors = [line for line in lines if "error" in line.lower()] or lines[-1:]
        raise MissingError(f"{' '.join(command[:2])} failed: {'; '.join(errors[:2])}")


def build(command: list[str], folder: Path) -> None:
    """Build what is our own: where that fails, nothing is missing but something is wrong."""
    done = _ran(command, folder)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")


def _ran(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **environment()}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def environment() -> Mapping[str, str]:
    """Variables for package tools.

    Maven keeps what it fetches in the home that the system names, whatever HOME says; and service
    users have none.
    """
    try:
        home = Path(pwd.getpwuid(os.getuid()).pw_dir)
        (home / ".m2").mkdir(parents=True, exist_ok=True)
    except (KeyError, OSError):
        home = Path(os.devnull)
    if os.access(home / ".m2", os.W_OK):
        return {}
    return {"MAVEN_OPTS": f"{os.environ.get('MAVEN_OPTS', '')} -Dmaven.repo.local={TOOLS}/maven"}


def once(mark: Path, sources: list[Path], work: Callable[[], None]) -> None:
    """Do the work unless it was done for just these sources."""
    digest = hashlib.sha256()
    for source in sources:
        digest.update(f"{source.relative_to(ROOT)}\0".encode())
        digest.update(hashlib.sha256(source.read_bytes()).digest())
    state = digest.hexdigest()
    if mark.is_file() and mark.read_text() == state:
        return
    work()
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.write_text(state)


@contextmanager
def alone() -> Iterator[None]:
    """Held while something is made below TOOLS: tests run several at once, and each asks for it."""
    TOOLS.mkdir(parents=True, exist_ok=True)
    with open(TOOLS / "lock", "w", encoding="utf-8") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        yield


def sources_of(language: str) -> list[Path]:
    """What a client is built from."""
    home = CLIENTS / language
    made = {home / name for name in ("node_modules", "dist", "target")}
    return sorted(
        path for path in home.rglob("*") if path.is_file() and not made.intersection(path.parents)
    )


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
    command = ["npm", "ci", "--loglevel=error"]
    once(home / "node_modules" / ".done", sources, lambda: run(command, home))


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
    """The command of the runner of the interoperability suite, of what is there now; so the others.
    The example is built along.

    Raises MissingError, and RuntimeError where our own code can't be built.
    """
    home, tools = CLIENTS / "go", TOOLS / "go"
    example = home / "example"  # a module of its own

    def work() -> None:
        build(["go", "build", "-o", f"{tools}/interop", "./internal/interop"], home)
        build(["go", "build", "-o", f"{tools}/example", "."], example)

    with alone():
        prepare_go()
        locks = [folder / name for folder in (home, example) for name in ("go.mod", "go.sum")]
        once(tools / ".libraries", locks, lambda: download_go(home, example))
        once(tools / ".built", sources_of("go"), work)
    return [str(tools / "interop")]


def download_go(*modules: Path) -> None:
    for module in modules:
        run(["go", "mod", "download"], module)


def build_typescript() -> Sequence[str]:
    home, tools = CLIENTS / "typescript", TOOLS / "typescript"

    def work() -> None:
        for script in ("check", "interop", "example:build"):
            build(["npm", "run", "--silent", script], home)

    with alone():
        prepare_typescript()
        once(tools / ".built", sources_of("typescript"), work)
    return ["node", str(tools / "node.mjs")]


def build_java() -> Sequence[str]:
    home = CLIENTS / "java"
    paths, maven = home / "target" / "classpath", ["mvn", "-q", "-B"]
    libraries = [f"-Dmdep.outputFile={paths}", "-Dmdep.includeScope=test"]

    def work() -> None:
        run([*maven, "dependency:build-classpath", *libraries], home)
        build([*maven, "test-compile"], home)

    with alone():
        prepare_java()
        once(home / "target" / ".built", sources_of("java"), work)
    own = [str(home / "target" / name) for name in ("classes", "test-classes")]
    return ["java", "-cp", ":".join([*own, paths.read_text()]), "dev.bridle.interop.Runner"]


#: Language -> what makes it ready for `buf generate` with its clients/<language>/buf.gen.yaml.
PREPARE: Mapping[str, Callable[[], None]] = {
    "go": prepare_go,
    "typescript": prepare_typescript,
    "java": prepare_java,
}
