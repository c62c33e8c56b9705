"""Set up the project's environment in .venv and the stub generator's in .tools/generator.

    setup.py              do what is missing; nothing at all when everything is up to date
    setup.py --lock       write both lock files from pyproject.toml, keeping pins that still hold
    setup.py --upgrade    the same, taking the newest versions

Needs Python 3.11 or later, and uv or a way to get it: uv from PATH, else by pip into .tools/uv.
Never needs root, and writes nothing outside the project but uv's package cache. The lock files hold
hashes and no addresses: packages come from the index in the user's own settings for uv or pip.
Standard library only. Called by make.
"""

from __future__ import annotations

import configparser
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
TOOLS = ROOT / ".tools"
GENERATOR = TOOLS / "generator"
LOCK = ROOT / "requirements.lock"
GENERATOR_LOCK = ROOT / "requirements-generator.lock"
OLDEST = (3, 11)

# pip's setting -> uv's variable, and what joins several values there.
HANDED_OVER = {
    "index-url": ("UV_DEFAULT_INDEX", " "),
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "no-index": ("UV_NO_INDEX", " "),
    "trusted-host": ("UV_INSECURE_HOST", " "),
    "timeout": ("UV_HTTP_TIMEOUT", " "),
    "cert": ("SSL_CERT_FILE", " "),
    "client-cert": ("SSL_CLIENT_CERT", " "),
    "proxy": ("ALL_PROXY", " "),
}


class SetupError(Exception):
    """Ends set-up; the text is one line for the user, with the way out."""


def say(text: str) -> None:
    print(f"setup: {text}", file=sys.stderr, flush=True)


def suitable_python() -> str:
    """This interpreter if it is new enough, else the first one on PATH that is."""
    if sys.version_info[:2] >= OLDEST:
        return sys.executable
    for minor in (11, 12, 13, 14):
        if found := shutil.which(f"python3.{minor}"):
            return found
    have = ".".join(map(str, sys.version_info[:3]))
    raise SetupError(
        f"Python {have} is too old, 3.11 is needed: sudo apt install python3.11 python3.11-venv"
        " (or: make PYTHON=/path/to/python3.11)"
    )


# --- the user's package settings ---------------------------------------------------------------


def pip_config_files() -> list[Path]:
    """Where pip looks, weakest first. `os.devnull` in PIP_CONFIG_FILE means none, as for pip."""
    chosen = os.environ.get("PIP_CONFIG_FILE")
    if chosen == os.devnull:
        return []
    home = Path(os.path.expanduser("~"))
    system = os.environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":")
    files = [Path(folder, "pip", "pip.conf") for folder in reversed(system) if folder]
    files.append(Path("/etc/pip.conf"))
    files.append(home / ".pip" / "pip.conf")
    files.append(Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config", "pip", "pip.conf"))
    files.append(Path(sys.prefix, "pip.conf"))
    if chosen:
        files.append(Path(chosen))
    return files


def pip_settings() -> dict[str, str]:
    """pip's settings by their long names: files first, PIP_* variables over them."""
    settings: dict[str, str] = {}
    for path in pip_config_files():
        # No interpolation: a % in an address with a password is just a %.
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, encoding="utf-8")
        except (OSError, UnicodeDecodeError, configparser.Error):
            continue
        for section in ("global", "install"):
            if parser.has_section(section):
                settings.update(
                    (key.replace("_", "-"), text) for key, text in parser[section].items()
                )
    for key, text in os.environ.items():
        if key.startswith("PIP_") and text:
            settings[key[4:].lower().replace("_", "-")] = text
    return settings


def has_uv_settings() -> bool:
    """Whether somebody has told uv itself where packages are."""
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path(os.path.expanduser("~"), ".config"))
    named = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_CONFIG_FILE", "UV_NO_INDEX")
    files = (config / "uv" / "uv.toml", Path("/etc/uv/uv.toml"), Path("/etc/xdg/uv/uv.toml"))
    return any(os.environ.get(name) for name in named) or any(path.exists() for path in files)


def is_reachable(place: str) -> bool:
    """uv refuses a find-links folder that is not there; pip shrugs."""
    return "://" in place or Path(place).expanduser().is_dir()


def has_cache(env: dict[str, str]) -> bool:
    """Whether uv can keep its cache where it wants to; service users often have no home."""
    user = env.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    cache = Path(env.get("UV_CACHE_DIR") or os.path.join(user, "uv"))
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(cache, os.W_OK)


def uv_environment() -> dict[str, str]:
    """The environment for uv, with pip's settings handed over unless uv has its own."""
    env = dict(os.environ)
    env["UV_PYTHON_DOWNLOADS"] = "never"
    env.pop("VIRTUAL_ENV", None)
    if not has_cache(env):
        env["UV_CACHE_DIR"] = str(TOOLS / "cache")
    if has_uv_settings():
        return env
    settings = pip_settings()
    for key, (variable, joint) in HANDED_OVER.items():
        values = settings.get(key, "").split()
        if key == "find-links":
            values = [place for place in values if is_reachable(place)]
        if values and not env.get(variable):
            env[variable] = joint.join(values)
    if env.get("UV_INDEX"):
        # pip takes the best of all its indexes; the hashes in the lock say what is acceptable.
        env.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    return env


# --- uv ----------------------------------------------------------------------------------------


def find_uv(python: str) -> str:
    """uv from PATH, else what an earlier set-up fetched, else fetch it by pip."""
    own = TOOLS / "uv" / "bin" / "uv"
    if found := shutil.which("uv"):
        return found
    if not own.exists():
        fetch_uv(python)
    return str(own)


def fetch_uv(python: str) -> None:
    say("uv is not on PATH: getting it by pip into .tools/uv")
    folder = TOOLS / "uv"
    shutil.rmtree(folder, ignore_errors=True)
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    # The venv's pip reads all of the user's settings but those kept beside the other interpreter.
    env = dict(os.environ)
    beside = Path(sys.prefix, "pip.conf")
    if beside.exists():
        env.setdefault("PIP_CONFIG_FILE", str(beside))
    if quiet([python, "-m", "venv", str(folder)]):
        run([str(folder / "bin" / "python"), *install, "uv"], env)
    elif quiet([python, "-m", "pip", "--version"]):
        # Debian's python3-pip without python3-venv.
        run([python, *install, "--target", str(folder), "uv"], env)
    else:
        shutil.rmtree(folder, ignore_errors=True)
        raise SetupError("Python's venv module is incomplete here: sudo apt install python3-venv")


def quiet(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def run(command: list[str], env: dict[str, str]) -> None:
    done = subprocess.run(command, cwd=ROOT, env=env, check=False)
    if done.returncode != 0:
        shown = " ".join(Path(word).name if "/" in word else word for word in command[:4])
        raise SetupError(f"failed ({done.returncode}): {shown} … (its own words are above)")


# --- the environments --------------------------------------------------------------------------


def is_usable(environment: Path) -> bool:
    """Whether its interpreter still runs and is new enough: systems get upgraded, clones moved."""
    home = str(environment)
    probe = f"import sys; sys.exit(sys.version_info < {OLDEST} or sys.prefix != {home!r})"
    python = environment / "bin" / "python"
    return python.exists() and quiet([str(python), "-c", probe])


def sync(uv: str, environment: Path, lock: Path, python: str, env: dict[str, str]) -> None:
    """Make the environment hold exactly what the lock names."""
    talk = [] if sys.stderr.isatty() else ["--quiet"]
    if not is_usable(environment):
        shutil.rmtree(environment, ignore_errors=True)
        run([uv, "venv", "--quiet", "--python", python, str(environment)], env)
    target = ["--python", str(environment / "bin" / "python")]
    run([uv, "pip", "sync", *talk, *target, "--require-hashes", str(lock)], env)


def install(python: str) -> None:
    env = uv_environment()
    uv = find_uv(python)
    say("installing what requirements.lock names into .venv")
    sync(uv, VENV, LOCK, python, env)
    sync(uv, GENERATOR, GENERATOR_LOCK, python, env)
    project = ["--no-deps", "--no-build-isolation", "--editable", "."]
    target = ["--python", str(VENV / "bin" / "python")]
    run([uv, "pip", "install", "--quiet", *target, *project], env)


def lock(python: str, upgrade: list[str]) -> None:
    env = uv_environment()
    uv = find_uv(python)
    common = [
        *("--universal", "--generate-hashes", "--no-emit-index-url", "--python-version", "3.11"),
        *("--custom-compile-command", "make lock", "--quiet", *upgrade),
    ]
    compiled = [uv, "pip", "compile"]
    run([*compiled, "pyproject.toml", "--group", "dev", *common, "-o", LOCK.name], env)
    run([*compiled, "--group", "generator", *common, "-o", GENERATOR_LOCK.name], env)


def wanted_stamp() -> str:
    """What the environments are made from. The path is part of it: a venv can't be moved."""
    digest = hashlib.sha256(str(ROOT).encode())
    for path in (ROOT / "pyproject.toml", LOCK, GENERATOR_LOCK, Path(__file__)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def is_done(stamp: str) -> bool:
    ready = VENV / ".ready"
    pythons = (VENV / "bin" / "python", GENERATOR / "bin" / "python")
    return all(path.exists() for path in (ready, *pythons)) and ready.read_text() == stamp


def main(arguments: list[str]) -> None:
    if arguments in (["--lock"], ["--upgrade"]):
        lock(suitable_python(), arguments[:1] if arguments == ["--upgrade"] else [])
        return
    if arguments:
        raise SetupError(f"unknown argument: {arguments[0]}")
    stamp = wanted_stamp()
    if is_done(stamp):
        return
    TOOLS.mkdir(exist_ok=True)
    # Two makes at once must not build the same environment into each other.
    with open(TOOLS / "setup.lock", "w", encoding="utf-8") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if not is_done(stamp):
            install(suitable_python())
            (VENV / ".ready").write_text(stamp)
            say("done")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except SetupError as error:
        sys.exit(f"setup: {error}")
