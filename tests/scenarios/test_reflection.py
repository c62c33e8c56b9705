"""What tools without our stubs see: reflection, and the health of each service."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.pair import PATIENCE, Pair, program, running_pair

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def _buf_curl(pair: Pair, method: str, *more: str) -> tuple[int, str]:
    header = f"authorization: Bearer {pair.token}"
    process = await asyncio.create_subprocess_exec(
        program("buf"),
        *("curl", "--http2-prior-knowledge", "--protocol", "grpc"),
        *("--header", header, "--reflect-header", header),
        *more,
        f"http://{pair.address}{method}",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(PATIENCE):
        out, _ = await process.communicate()
    return process.returncode or 0, out.decode()


async def test_buf_curl_lists_and_calls_the_services_through_reflection(tmp_path: Path) -> None:
    async with running_pair(tmp_path) as pair:
        code, listed = await _buf_curl(pair, "", "--list-methods")
        assert code == 0, listed
        assert "bridle.v1.SessionService/Interrupt" in listed
        assert "bridle.v1.IdentityService/WhoAmI" in listed

        start = json.dumps({"slug": "x", "agent": "shell", "prompt": [{"text": "echo hello"}]})
        service = "/bridle.v1.SessionService"
        code, started = await _buf_curl(pair, f"{service}/StartSession", "--data", start)
        assert code == 0, started
        assert json.loads(started)["session"]["slug"] == "x"
        target = json.dumps({"session": {"slug": "x"}})
        code, interrupted = await _buf_curl(pair, f"{service}/Interrupt", "--data", target)
        assert code == 0, interrupted
        unknown = json.dumps({"session": {"slug": "nobody"}})
        code, refused = await _buf_curl(pair, f"{service}/Interrupt", "--data", unknown)
        assert code != 0
        assert "not_found" in refused


async def test_health_says_serving_and_not_serving_while_control_shuts_down(
    tmp_path: Path,
) -> None:
    async with running_pair(tmp_path, host=False) as pair:
        async with grpc.aio.insecure_channel(pair.address) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            for name in ("", "bridle.v1.SessionService", "bridle.host.v1.HostLinkService"):
                answer = await stub.Check(health_pb2.HealthCheckRequest(service=name))
                assert answer.status == SERVING
            watch = stub.Watch(health_pb2.HealthCheckRequest(service="bridle.v1.SessionService"))
            assert (await watch.read()).status == SERVING
            assert pair.control is not None
            pair.control.terminate()
            assert (await watch.read()).status == NOT_SERVING
            watch.cancel()
        await pair.end_control()
