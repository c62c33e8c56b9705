"""What the user has set: where control is, which workspace, which token.

From strong to weak: flags, the environment, `bridle.local.yaml`, `bridle.yaml` (both found by
walking up from the working directory), `settings.yaml` in the user's own folder, the address that
the user logged in to last, 127.0.0.1:7420.

A project's files may be anybody's. So they can't hold secrets, and an address that one of them
names only ever gets the credential that the user stored for that very address.

Inside a session (BRIDLE_SESSION and BRIDLE_TOKEN_FILE are set) only the session's own identity is
used, and no file is read. Called by `Client.from_settings` and by the command line; opens no
connection.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridle.errors import Code, SettingsError

if TYPE_CHECKING:
    import yaml

DEFAULT_PORT = 7420
DEFAULT_ADDRESS = f"127.0.0.1:{DEFAULT_PORT}"
LOCAL_FILE, PROJECT_FILE, USER_FILE = "bridle.local.yaml", "bridle.yaml", "settings.yaml"
#: Settings are a few lines; what is larger is some other file.
FILE_CAP = 65_536
_KEYS = ("address", "workspace", "agent", "host")


@dataclass(frozen=True, slots=True)
class Places:
    """Where Bridle keeps what belongs to the user: settings and credentials in `config`, the store,
    the journal and logs in `data`. BRIDLE_HOME moves both into one folder.
    """

    config: Path
    data: Path

    @classmethod
    def find(cls, environ: Mapping[str, str] = os.environ) -> Places:
        if home := environ.get("BRIDLE_HOME"):
            path = Path(home).expanduser().absolute()
            return cls(path, path)
        import platformdirs

        return cls(platformdirs.user_config_path("bridle"), platformdirs.user_data_path("bridle"))

    @property
    def credentials(self) -> Path:
        return self.config / "credentials.json"

    @property
    def store(self) -> Path:
        """The store of a control that runs on this machine, a folder."""
        return self.data / "control"

    @property
    def host(self) -> Path:
        """What the agent host service of this machine must not forget, a folder."""
        return self.data / "host"

    def log(self, service: str) -> Path:
        """The log file of a service that `bridle` started."""
        return self.data / "logs" / f"{service}.log"


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings as they count.

    address: "HOST:PORT" of control; `address_from` says where it was found. token: gives the secret
    to send, anew for each call, None where there is none. insecure: plaintext to an address that is
    not loopback. tls_ca: the CA of control's certificate, PEM; TLS to loopback too. session: inside
    a session, its own slug.
    """

    address: str
    address_from: str
    token: Callable[[], str | None]
    workspace: str = ""
    agent: str = ""
    host: str = ""
    insecure: bool = False
    tls_ca: Path | None = None
    session: str = ""


def load(
    *,
    address: str = "",
    workspace: str = "",
    directory: Path | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Settings:
    """The settings for a caller in `directory` (default: the working directory).

    `address` and `workspace` are the flags. SettingsError: a file or a variable can't be used.
    """
    if environ.get("BRIDLE_SESSION") and environ.get("BRIDLE_TOKEN_FILE"):
        return _inside_session(address, workspace, environ)
    from bridle.credentials import Credentials

    places = Places.find(environ)
    layers: list[tuple[str, bool, Mapping[str, Any]]] = [
        ("the command line", True, {"address": address, "workspace": workspace}),
        ("the environment", True, {key: environ.get(f"BRIDLE_{key.upper()}") for key in _KEYS}),
    ]
    start = directory or _working_directory()
    names = (LOCAL_FILE, PROJECT_FILE) if start is not None else ()
    found = [path for name in names if start and (path := _walk_up(start.absolute(), name))]
    layers += [(str(path), False, read_file(path, trusted=False)) for path in found]
    user_file = places.config / USER_FILE
    user = read_file(user_file, trusted=True) if user_file.is_file() else {}
    layers.append((str(user_file), True, user))
    credentials = Credentials.read(places.credentials)
    layers.append((str(places.credentials), True, {"address": credentials.current}))
    layers.append(("the default", True, {"address": DEFAULT_ADDRESS}))

    def first(key: str) -> tuple[str, str, bool]:
        return next(
            ((str(values[key]), source, ok) for source, ok, values in layers if values.get(key)),
            ("", "", True),
        )

    raw, source, trusted = first("address")
    normal = normal_address(raw, source)
    # (A project's file can't name a CA either: its owner could then be control to the user.)
    tls_ca = environ.get("BRIDLE_TLS_CA") or user.get("tls_ca") or credentials.authority(normal)
    return Settings(
        address=normal,
        address_from=source,
        token=_token_source(normal, trusted, credentials.token(normal), environ),
        workspace=first("workspace")[0],
        agent=first("agent")[0],
        host=first("host")[0],
        insecure=_flag(environ.get("BRIDLE_INSECURE", "")) or bool(user.get("insecure")),
        tls_ca=Path(tls_ca).expanduser().absolute() if tls_ca else None,
    )


def _inside_session(address: str, workspace: str, environ: Mapping[str, str]) -> Settings:
    own = normal_address(environ.get("BRIDLE_ADDRESS", DEFAULT_ADDRESS), "BRIDLE_ADDRESS")
    if address and normal_address(address, "--address") != own:
        raise SettingsError(
            "inside a session only its own control can be called, without --address"
        )
    return Settings(
        address=own,
        address_from="the session",
        token=token_file(Path(environ["BRIDLE_TOKEN_FILE"])),
        workspace=workspace or environ.get("BRIDLE_WORKSPACE", ""),
        insecure=_flag(environ.get("BRIDLE_INSECURE", "")),
        tls_ca=Path(tls_ca) if (tls_ca := environ.get("BRIDLE_TLS_CA")) else None,
        session=environ["BRIDLE_SESSION"],
    )


def _token_source(
    address: str, trusted: bool, stored: str | None, environ: Mapping[str, str]
) -> Callable[[], str | None]:
    """A token of the environment goes with an address of the user, never with a project's."""
    if trusted and (token := environ.get("BRIDLE_TOKEN")):
        return lambda: token
    if trusted and (path := environ.get("BRIDLE_TOKEN_FILE")):
        return token_file(Path(path))
    return lambda: stored


def token_file(path: Path) -> Callable[[], str | None]:
    """Reads the token anew each time: whoever keeps the file fresh may have changed it."""

    def read() -> str:
        try:
            return path.read_text("ascii").strip()
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"{path}: the token can't be read", code=Code.UNAUTHENTICATED
            ) from error

    return read


def normal_address(address: str, source: str) -> str:
    """`address` as "host:port", lower case, localhost as 127.0.0.1. SettingsError: it is none."""
    host, colon, port = address.strip().lower().rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    legal = all(char.isalnum() or char in "-._" for char in host) or bracketed
    if not (colon and host and legal and port.isascii() and port.isdigit() and int(port) < 65536):
        raise SettingsError(f"{source}: {address!r} is no address, which is HOST:PORT")
    return f"{'127.0.0.1' if host == 'localhost' else host}:{int(port)}"


def is_loopback(address: str) -> bool:
    """Whether a normal address stays on this machine."""
    # Quicker to import than ipaddress, and gRPC needs it anyway.
    import socket

    host = address.rpartition(":")[0].strip("[]")
    try:
        if ":" in host:
            return socket.inet_pton(socket.AF_INET6, host) == b"\0" * 15 + b"\1"
        return socket.inet_pton(socket.AF_INET, host)[0] == 127
    except OSError:
        return False


def _flag(text: str) -> bool:
    return text.lower() in ("1", "true", "yes", "on")


def _working_directory() -> Path | None:
    """None where it was deleted: then no project's files are there either."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return None


def _walk_up(start: Path, name: str) -> Path | None:
    return next((d / name for d in (start, *start.parents) if (d / name).is_file()), None)


def read_file(path: Path, *, trusted: bool) -> dict[str, Any]:
    """The settings in one YAML file, checked. `trusted`: it is the user's own, and may also say
    `insecure` and `tls_ca`. SettingsError: one line that names the file and the place in it.
    """
    import msgspec
    import yaml

    try:
        raw = path.read_bytes()
        if len(raw) > FILE_CAP:
            raise SettingsError(f"{path}: too large for a settings file")
        text = raw.decode("utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: not UTF-8 at byte {error.start}") from error
    except yaml.YAMLError as error:
        raise SettingsError(_yaml_place(path, error)) from error
    except (RecursionError, ValueError) as error:
        raise SettingsError(f"{path}: no YAML that can be read") from error
    if values is None:
        return {}
    fields: list[tuple[str, Any, Any]] = [(key, str | None, None) for key in _KEYS]
    if trusted:
        fields += [("insecure", bool, False), ("tls_ca", str | None, None)]
    shape = msgspec.defstruct("Settings", fields, forbid_unknown_fields=True)
    try:
        return msgspec.structs.asdict(msgspec.convert(values, shape))
    except msgspec.ValidationError as error:
        problem = str(error).partition(" - at ")[0].replace("`", '"').replace("Object", "it")
        line, key = _line_of(node, str(error), [name for name, _, _ in fields])
        where = f"{path}:{line}" if line else str(path)
        known = f"; known are {', '.join(name for name, _, _ in fields)}" if not key else ""
        raise SettingsError(
            f"{where}: {f'{key}: ' if key else ''}{problem[:1].lower()}{problem[1:]}{known}"
        ) from error


def _yaml_place(path: Path, error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "no YAML"
    if mark is None:
        return f"{path}: {problem}"
    return f"{path}:{mark.line + 1}:{mark.column + 1}: {problem}"


def _line_of(node: yaml.Node | None, problem: str, known: list[str]) -> tuple[int, str]:
    """The line, from 1, and the key that `problem` is about; 0 and "" where there are none."""
    import yaml

    if isinstance(node, yaml.MappingNode):
        for name, _ in node.value:
            key = str(name.value)
            if f"$.{key}" in problem or f"`{key}`" in problem:
                return name.start_mark.line + 1, key if key in known else ""
    return (node.start_mark.line + 1 if node is not None else 0), ""
