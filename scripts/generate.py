"""Write the stubs of every language from proto/, or check that those in the tree are up to date.

    generate.py           regenerate, and delete stubs whose proto is gone
    generate.py --check   change nothing; list what differs and end with 1

Generation goes to a temporary folder first and is then compared file by file, so a failed run
leaves the tree as it was, unchanged stubs keep their time stamps, and the check is the same code.
Needs no network: buf and the plugins are local. Called by make.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Folders that hold generated files and nothing else: what is in them and not generated is stale.
GENERATED = (
    Path("clients/python/bridle/v1"),
    Path("clients/python/bridle/host"),
    Path("clients/python/buf"),
)


def run_buf(out: Path) -> None:
    """Generate all languages below `out`; end the program if buf refuses."""
    buf = Path(sys.executable).parent / "buf"
    done = subprocess.run([buf, "generate", "--output", out], cwd=ROOT, check=False)
    if done.returncode != 0:
        sys.exit(done.returncode)


def drop_empty_types(out: Path) -> None:
    """mypy-protobuf types a *_pb2_grpc module for every proto, also where there is no service."""
    for path in out.rglob("*_pb2_grpc.pyi"):
        if not path.with_suffix(".py").exists():
            path.unlink()


def files_below(base: Path) -> dict[Path, bytes]:
    """Path below `base` -> content, for what stands in the generated folders."""
    return {
        path.relative_to(base): path.read_bytes()
        for folder in GENERATED
        for path in (base / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def unexpected(out: Path) -> list[Path]:
    """Generated files that would land outside the generated folders, over hand-written ones."""
    made = (path.relative_to(out) for path in out.rglob("*") if path.is_file())
    return [path for path in made if not any(path.is_relative_to(home) for home in GENERATED)]


def main() -> int:
    check = sys.argv[1:] == ["--check"]
    if sys.argv[1:] and not check:
        print(__doc__, file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="bridle-generate-") as folder:
        out = Path(folder)
        run_buf(out)
        drop_empty_types(out)
        if stray := unexpected(out):
            print("generate: outside the generated folders:", *stray, file=sys.stderr)
            return 1
        wanted, present = files_below(out), files_below(ROOT)
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
    if check and (changed or stale):
        print("The stubs are not up to date with proto/: run `make generate`.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
