"""Write the stubs of every language from proto/, or check that those in the tree are up to date.

    generate.py           regenerate, and delete stubs whose proto is gone
    generate.py --check   change nothing; list what differs and end with 1
    --no-skips            also end with 1 where a language is not on this machine; else it is told

Generation goes to a temporary folder first and is then compared file by file, so a failed run
leaves the tree as it was, unchanged stubs keep their time stamps, and the check is the same code.
Once their tools are there it needs no network: buf and the plugins are local. Called by make.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts import client_tools  # noqa: E402 (found by the line above)

# Language -> folders that hold generated files and nothing else: what is in them and is not
# generated is stale.
GENERATED: Mapping[str, Sequence[Path]] = {
    "python": (
        Path("clients/python/bridle/v1"),
        Path("clients/python/bridle/host"),
        Path("clients/python/buf"),
    ),
    "go": (Path("clients/go/bridle/v1"),),
    "typescript": (Path("clients/typescript/src/gen"),),
    "java": (Path("clients/java/src/main/java/dev/bridle/v1"),),
}


def run_buf(language: str, out: Path) -> None:
    """Generate one language's stubs below `out`; end the program if buf refuses."""
    buf = Path(sys.executable).parent / "buf"
    template = "buf.gen.yaml" if language == "python" else f"clients/{language}/buf.gen.yaml"
    command: list[str | Path] = [buf, "generate", "--template", template, "--output", out]
    done = subprocess.run(command, cwd=ROOT, check=False)
    if done.returncode != 0:
        sys.exit(done.returncode)


def drop_empty_types(out: Path) -> None:
    """mypy-protobuf types a *_pb2_grpc module for every proto, also where there is no service."""
    for path in out.rglob("*_pb2_grpc.pyi"):
        if not path.with_suffix(".py").exists():
            path.unlink()


def files_below(base: Path, folders: Sequence[Path]) -> dict[Path, bytes]:
    """Path below `base` -> content, for what stands in the generated folders."""
    return {
        path.relative_to(base): path.read_bytes()
        for folder in folders
        for path in (base / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def unexpected(out: Path, folders: Sequence[Path]) -> list[Path]:
    """Generated files that would land outside the generated folders, over hand-written ones."""
    made = (path.relative_to(out) for path in out.rglob("*") if path.is_file())
    return [path for path in made if not any(path.is_relative_to(home) for home in folders)]


def bring_up_to_date(language: str, *, check: bool) -> bool:
    """Generate one language and write, or only tell, what differs. True where nothing is amiss."""
    folders = GENERATED[language]
    with tempfile.TemporaryDirectory(prefix="bridle-generate-") as folder:
        out = Path(folder)
        run_buf(language, out)
        drop_empty_types(out)
        if stray := unexpected(out, folders):
            print("generate: outside the generated folders:", *stray, file=sys.stderr)
            return False
        wanted, present = files_below(out, folders), files_below(ROOT, folders)
    changed = sorted(path for path, content in wanted.items() if present.get(path) != content)
    stale = sorted(present.keys() - wanted.keys())
    for path in changed:
        print(f"{'out of date' if check else 'wrote'}: {path}")
        if not check:
            (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
            (ROOT / path).write_bytes(wanted[path])
    for path in stale:
        print(f"{'stale' if check else 'deleted'}: {path}")
        if not check:
            (ROOT / path).unlink()
    return not (check and (changed or stale))


def main() -> int:
    arguments = set(sys.argv[1:])
    if arguments - {"--check", "--no-skips"}:
        print(__doc__, file=sys.stderr)
        return 2
    check = "--check" in arguments
    good = True
    for language in GENERATED:
        try:
            with client_tools.alone():
                client_tools.PREPARE.get(language, lambda: None)()
        except client_tools.MissingError as missing:
            print(f"SKIP {language}: {missing}", file=sys.stderr)
            good = good and "--no-skips" not in arguments
            continue
        if not bring_up_to_date(language, check=check):
            good = False
    if check and not good:
        print("Not all stubs are known to be up to date: run `make generate`.", file=sys.stderr)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
