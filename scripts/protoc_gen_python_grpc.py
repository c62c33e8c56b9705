"""A protoc plugin that writes Python messages, gRPC stubs and the packages that hold them.

buf has no built-in gRPC generator for Python, and grpcio-tools offers its own only through its
bundled protoc. So this takes a plugin request, hands its descriptors to that protoc, and answers
with the files. It runs in the generator's own environment, never in the project's.
Called by buf as buf.gen.yaml says; reads a CodeGeneratorRequest on stdin, answers on stdout.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path, PurePosixPath

from google.protobuf.compiler.plugin_pb2 import CodeGeneratorRequest, CodeGeneratorResponse
from google.protobuf.descriptor_pb2 import FileDescriptorSet

# The hand-written package that the stubs of bridle.* stand in; its __init__.py is not ours.
HAND_WRITTEN = frozenset({PurePosixPath("bridle")})
INIT = '"""Generated from proto/ by `make generate`. Do not edit."""\n'


def packages(files: list[str]) -> set[PurePosixPath]:
    """Every folder above the generated files, without the hand-written ones."""
    folders = {parent for name in files for parent in PurePosixPath(name).parents}
    return folders - HAND_WRITTEN - {PurePosixPath(".")}


def generate(request: CodeGeneratorRequest) -> CodeGeneratorResponse:
    """Run grpcio-tools' protoc on the request's descriptors."""
    response = CodeGeneratorResponse(
        supported_features=CodeGeneratorResponse.FEATURE_PROTO3_OPTIONAL
    )
    names = list(request.file_to_generate)
    services = {file.name for file in request.proto_file if file.service}
    with tempfile.TemporaryDirectory(prefix="bridle-generate-") as folder:
        root = Path(folder)
        descriptors = root / "descriptors.binpb"
        descriptors.write_bytes(FileDescriptorSet(file=request.proto_file).SerializeToString())
        out = root / "out"
        out.mkdir()
        protoc = [sys.executable, "-m", "grpc_tools.protoc", f"--descriptor_set_in={descriptors}"]
        runs = [[*protoc, f"--python_out={out}", *names]]
        # Files without a service would only get an empty *_pb2_grpc.py.
        if with_service := [name for name in names if name in services]:
            runs.append([*protoc, f"--grpc_python_out={out}", *with_service])
        for run in runs:
            done = subprocess.run(run, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                response.error = done.stderr or f"protoc ended with {done.returncode}"
                return response
        for path in sorted(out.rglob("*.py")):
            name = path.relative_to(out).as_posix()
            response.file.add(name=name, content=path.read_text(encoding="utf-8"))
    for package in sorted(packages(names)):
        response.file.add(name=f"{package}/__init__.py", content=INIT)
        if len(package.parts) == 1:
            response.file.add(name=f"{package}/py.typed")
    return response


def main() -> None:
    request = CodeGeneratorRequest.FromString(sys.stdin.buffer.read())
    sys.stdout.buffer.write(generate(request).SerializeToString())


if __name__ == "__main__":
    main()
