"""TLS for clients and mutual TLS for hosts: whom control lets in, and what it does as certificates
are renewed. The certificates are made by `bridle pki`, as its users' are.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest

from bridle import Client
from bridle.errors import ConnectionLostError, SettingsError
from bridle.host.v1 import host_link_service_pb2 as wire
from bridle.host.v1 import host_link_service_pb2_grpc as host_grpc
from bridle.pki import Files, make_authority, make_control, make_host
from bridle_control.settings import Address, Settings
from tests.bridle_control.serving import RunningControl, bearer, control_server, mint_host
from tests.pair import PATIENCE, program, until
from tests.support.ports import held_port

REACHED_BY = ("localhost", "127.0.0.1")


class Pki:
    """An authority, control's certificate and those of hosts "alpha" and "beta"."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ca = make_authority(directory, 30).cert
        self.control = make_control(directory, REACHED_BY, 30)
        self.alpha = make_host(directory, "alpha", 30)
        self.beta = make_host(directory, "beta", 30)

    def settings(self, store: Path) -> Settings:
        return Settings(
            store=store,
            listen=Address("127.0.0.1", 0),
            tls_cert=self.control.cert,
            tls_key=self.control.key,
            hosts_listen=Address("127.0.0.1", 0),
            hosts_ca=self.ca,
        )

    def channel(
        self, address: Address | None, shown: Files | None = None, *, ca: Path | None = None
    ) -> grpc.aio.Channel:
        pair = (None, None) if shown is None else (shown.key.read_bytes(), shown.cert.read_bytes())
        trusted = (ca or self.ca).read_bytes()
        return grpc.aio.secure_channel(str(address), grpc.ssl_channel_credentials(trusted, *pair))


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@asynccontextmanager
async def serving(tmp_path: Path, pki: Pki) -> AsyncIterator[RunningControl]:
    settings = pki.settings(tmp_path / "store")
    async with control_server(tmp_path / "store", settings=settings) as control:
        yield control


async def _connects(channel: grpc.aio.Channel, credential: str) -> str:
    """What becomes of a host that connects: "welcome", or the code with which it was refused."""
    async with channel:
        call = host_grpc.HostLinkServiceStub(channel).Connect(metadata=bearer(credential))
        try:
            async with asyncio.timeout(PATIENCE):
                hello = wire.Hello(
                    protocol_min=1,
                    protocol_max=1,
                    incarnation="0b5b47c6-9dd4-4f9b-8c3c-3a0a3f6f6a01",
                    boot_id="0b5b47c6-9dd4-4f9b-8c3c-3a0a3f6f6a02",
                    journal_id="0b5b47c6-9dd4-4f9b-8c3c-3a0a3f6f6a03",
                )
                await call.write(wire.ConnectRequest(hello=hello))
                answer = await call.read()
        except grpc.aio.AioRpcError as error:
            return error.code().name
        finally:
            call.cancel()
        assert isinstance(answer, wire.ConnectResponse)
        return str(answer.WhichOneof("message"))


async def test_a_host_gets_in_with_its_own_certificate_and_by_no_other_way(
    tmp_path: Path, pki: Pki
) -> None:
    async with serving(tmp_path, pki) as control:
        alpha = await mint_host(control.store, name="alpha")
        # Its own certificate, on the port for hosts.
        assert await _connects(pki.channel(control.hosts, pki.alpha), alpha) == "welcome"
        # The certificate of another host, with a credential that was stolen.
        assert await _connects(pki.channel(control.hosts, pki.beta), alpha) == "PERMISSION_DENIED"
        # None: the handshake fails.
        assert await _connects(pki.channel(control.hosts), alpha) == "UNAVAILABLE"
        # The port for everybody, where nobody is asked for a certificate.
        refused = await _connects(pki.channel(control.address, pki.alpha), alpha)
        assert refused == "PERMISSION_DENIED"


async def test_a_certificate_of_another_authority_opens_nothing(tmp_path: Path, pki: Pki) -> None:
    other = Pki(tmp_path / "other")
    async with serving(tmp_path, pki) as control:
        alpha = await mint_host(control.store, name="alpha")
        forged = pki.channel(control.hosts, other.alpha)
        assert await _connects(forged, alpha) == "UNAVAILABLE"
        # And whoever pretends to be control is told nothing.
        assert await _connects(pki.channel(control.hosts, pki.alpha, ca=other.ca), alpha) == (
            "UNAVAILABLE"
        )
        # A server's certificate is none of a host's, whatever its name.
        assert await _connects(pki.channel(control.hosts, pki.control), alpha) == "UNAVAILABLE"


async def test_joining_needs_the_certificate_of_the_name_too(tmp_path: Path, pki: Pki) -> None:
    async with serving(tmp_path, pki) as control:
        async with Client(
            str(control.address), token=control.admin, tls_ca=pki.ca, workspace="default"
        ) as client:
            join = (await client.create_join_token()).join_token
        async with pki.channel(control.hosts, pki.alpha) as channel:
            stub = host_grpc.HostLinkServiceStub(channel)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.Enroll(wire.EnrollRequest(name="beta"), metadata=bearer(join))
            assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
            # The join token was not used up by it.
            answer = await stub.Enroll(wire.EnrollRequest(name="alpha"), metadata=bearer(join))
        assert answer.workspace == "default"


async def test_a_client_speaks_tls_to_the_authority_that_it_names_and_to_no_other(
    tmp_path: Path, pki: Pki
) -> None:
    other = Pki(tmp_path / "other")
    async with serving(tmp_path, pki) as control:
        address = str(control.address)
        async with Client(address, token=control.admin, tls_ca=pki.ca) as client:
            assert (await client.who_am_i()).principal.name == "admin"
        for wrong in (other.ca, None):  # None: plaintext, as this is loopback
            async with Client(address, token=control.admin, tls_ca=wrong) as client:
                with pytest.raises(ConnectionLostError):
                    await client.who_am_i()
        for unusable in (tmp_path / "missing.pem", pki.directory / "ca.key"):
            async with Client(address, token=control.admin, tls_ca=unusable) as client:
                with pytest.raises(SettingsError, match=str(unusable)):
                    await client.who_am_i()


def _handshake(address: Address, version: ssl.TLSVersion) -> str:
    """With what this version of TLS ends."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    with socket.create_connection((address.host, address.port), timeout=PATIENCE) as plain:
        try:
            with context.wrap_socket(plain) as secure:
                return str(secure.version())
        except (ssl.SSLError, ConnectionError):
            return "refused"


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_old_versions_of_tls_are_refused(tmp_path: Path, pki: Pki) -> None:
    async with serving(tmp_path, pki) as control:
        for version, becomes in (
            (ssl.TLSVersion.TLSv1, "refused"),
            (ssl.TLSVersion.TLSv1_1, "refused"),
            (ssl.TLSVersion.TLSv1_2, "TLSv1.2"),
            (ssl.TLSVersion.TLSv1_3, "TLSv1.3"),
        ):
            assert await asyncio.to_thread(_handshake, control.address, version) == becomes


async def test_a_renewed_certificate_is_taken_without_a_restart_and_a_broken_one_is_not(
    tmp_path: Path,
) -> None:
    pki = Pki(tmp_path / "pki")

    def shown() -> str:
        place = (control.address.host, control.address.port)
        return ssl.get_server_certificate(place, timeout=PATIENCE)

    async with serving(tmp_path, pki) as control:
        first = await asyncio.to_thread(shown)
        assert first.strip() == pki.control.cert.read_text().strip()
        async with pki.channel(control.address) as channel:
            # A connection that is open lives on, whatever becomes of the files.
            connected = channel.get_state(try_to_connect=True)
            while connected is not grpc.ChannelConnectivity.READY:
                await channel.wait_for_state_change(connected)
                connected = channel.get_state()
            pki.control.cert.write_text("-----BEGIN half a certificate")
            assert await asyncio.to_thread(shown) == first
            make_control(pki.directory, REACHED_BY, 30)
            second = await asyncio.to_thread(shown)
            assert second.strip() == pki.control.cert.read_text().strip()
            assert second != first
            assert channel.get_state() is grpc.ChannelConnectivity.READY
        # One authority follows another: whose certificates open the hosts' port changes with it.
        alpha = await mint_host(control.store, name="alpha")
        old = pki.alpha.cert.read_bytes(), pki.alpha.key.read_bytes()
        for name in ("ca.pem", "ca.key"):
            (pki.directory / name).unlink()
        new = Pki(pki.directory)
        assert await _connects(new.channel(control.hosts, new.alpha), alpha) == "welcome"
        stale = Files(tmp_path / "old.pem", tmp_path / "old.key")
        stale.cert.write_bytes(old[0])
        stale.key.write_bytes(old[1])
        assert await _connects(new.channel(control.hosts, stale), alpha) == "UNAVAILABLE"


async def test_a_certificate_that_is_mended_in_its_place_is_taken_whatever_its_time_says(
    tmp_path: Path,
) -> None:
    pki = Pki(tmp_path / "pki")

    def shown() -> str:
        place = (control.address.host, control.address.port)
        return ssl.get_server_certificate(place, timeout=PATIENCE).strip()

    async with serving(tmp_path, pki) as control:
        first = await asyncio.to_thread(shown)
        make_control(pki.directory, REACHED_BY, 30)
        cert = pki.control.cert
        second, time = cert.read_bytes(), cert.stat().st_mtime_ns
        # Half of it is there; then all of it, as a copy that keeps times and places writes it.
        cert.write_bytes(second[:-200] + b"x" * 200)
        os.utime(cert, ns=(time, time))
        assert await asyncio.to_thread(shown) == first
        cert.write_bytes(second)
        os.utime(cert, ns=(time, time))
        assert await asyncio.to_thread(shown) == second.decode().strip()


class Machine:
    """A user's machine, on which each command of the README is a process of its own."""

    def __init__(self, directory: Path) -> None:
        self.pki, self.work = directory / "pki", directory / "work"
        self.token = directory / "token"
        self.work.mkdir()
        kept = {key: value for key, value in os.environ.items() if not key.startswith("BRIDLE_")}
        self.environment = {**kept, "BRIDLE_HOME": str(directory / "home")}

    async def bridle(self, *words: str, stdin: bytes = b"", code: int = 0) -> str:
        """Runs a command to its end."""
        process = await asyncio.create_subprocess_exec(
            program("bridle"),
            *words,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            env=self.environment,
            cwd=self.work,
        )
        async with asyncio.timeout(PATIENCE):
            out, err = await process.communicate(stdin)
        assert process.returncode == code, err.decode()
        return out.decode()

    @asynccontextmanager
    async def service(self, *words: str) -> AsyncIterator[str]:
        """Runs a service; gives the line with which it tells that it is ready."""
        process = await asyncio.create_subprocess_exec(
            program("bridle"),
            *words,
            stdin=DEVNULL,
            stdout=PIPE,
            env=self.environment,
            cwd=self.work,
            start_new_session=True,
        )
        assert process.stdout is not None
        try:
            async with asyncio.timeout(PATIENCE):
                ready = (await process.stdout.readline()).decode().strip()
            yield ready
        finally:
            process.terminate()
            async with asyncio.timeout(PATIENCE):
                await process.wait()
            process._transport.close()  # type: ignore[attr-defined]

    async def certify(self) -> None:
        """Makes an authority, and with it control's certificate."""
        await self.bridle("pki", "init", str(self.pki))
        await self.bridle("pki", "control", str(self.pki), *REACHED_BY)

    def control(self, address: str, hosts: str) -> AbstractAsyncContextManager[str]:
        files = ("--tls-cert", "control.pem", "--tls-key", "control.key", "--hosts-ca", "ca.pem")
        flags = [str(self.pki / word) if "." in word else word for word in files]
        where = ("--listen", address, "--hosts-listen", hosts)
        return self.service("control", "serve", *where, *flags)

    async def join(self, address: str, hosts: str) -> None:
        """Logs in, and makes this machine the host "alpha"."""
        self.environment["BRIDLE_ADDRESS"] = address
        login = ("auth", "login", "--tls-ca", str(self.pki / "ca.pem"))
        await self.bridle(*login, stdin=self.token.read_bytes())
        files = [str(self.pki / f"host-alpha.{kind}") for kind in ("pem", "key")]
        shown = ("--tls-cert", files[0], "--tls-key", files[1], "--hosts-address", hosts)
        joined = await self.bridle("host", "join", "--name", "alpha", *shown)
        assert joined == f"joined {address} as alpha\n"


ANY = "127.0.0.1:0"


def _places(ready: str) -> tuple[str, str]:
    """Where control serves everybody, and hosts."""
    assert ready.startswith("ready grpc=127.0.0.1:")
    address, _, hosts = ready.removeprefix("ready grpc=").partition(" hosts=")
    return address, hosts


async def test_the_pair_runs_over_mutual_tls_as_processes(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    await machine.certify()
    await machine.bridle("pki", "host", str(machine.pki), "alpha")
    assert {path.name: path.stat().st_mode & 0o777 for path in machine.pki.iterdir()} == {
        "ca.pem": 0o644,
        "ca.key": 0o600,
        "control.pem": 0o644,
        "control.key": 0o600,
        "host-alpha.pem": 0o644,
        "host-alpha.key": 0o600,
    }
    # What an authority has signed needs it.
    await machine.bridle("pki", "init", str(machine.pki), code=2)
    await machine.bridle("control", "init", "--token-file", str(machine.token))
    async with machine.control(ANY, ANY) as ready:
        await machine.join(*_places(ready))
        async with machine.service("host", "serve") as host:
            assert host == "ready host=alpha"
            # The agent, too, reaches control: at the address for clients, by the same authority.
            await machine.bridle("session", "start", "x", "--agent", "shell", "bridle ls -q")
            await machine.bridle("wait", "x", "--for", "idle")
            assert "x\n" in await machine.bridle("session", "transcript", "x")
            await machine.bridle("session", "stop", "x", "--wait")


async def test_a_host_takes_its_renewed_certificate_without_a_restart(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    await machine.certify()
    await machine.bridle("pki", "host", str(machine.pki), "alpha")
    await machine.bridle("control", "init", "--token-file", str(machine.token))

    async def reachable() -> bool:
        return "HOST_STATE_CONNECTED" in await machine.bridle("hosts", "--json")

    async with AsyncExitStack() as held, AsyncExitStack() as first:
        # Control comes back to the same ports, and nobody else is given them meanwhile.
        ports = [held.enter_context(held_port()) for _ in range(2)]
        address, hosts = (f"127.0.0.1:{each.getsockname()[1]}" for each in ports)
        ready = await first.enter_async_context(machine.control(address, hosts))
        assert _places(ready) == (address, hosts)
        await machine.join(address, hosts)
        async with machine.service("host", "serve") as host:
            assert host == "ready host=alpha"
            assert await reachable()
            await first.aclose()
            # Control comes back with another authority, of which the host's certificate is not.
            for name in ("ca.pem", "ca.key"):
                (machine.pki / name).unlink()
            await machine.certify()
            async with machine.control(address, hosts):
                assert not await reachable()
                await machine.bridle("pki", "host", str(machine.pki), "alpha")
                await until(reachable, "the host is back with its new certificate")
