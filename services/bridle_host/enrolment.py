"""Makes this machine a host, once: a join token becomes a credential.

Called by `bridle_host.app` when the state directory holds no credential. The join token is used
up by control, the credential is kept in a file of mode 0600; neither is ever logged.
"""

from __future__ import annotations

from pathlib import Path

from grpc import aio

from bridle.host.v1 import host_link_service_pb2 as host_pb
from bridle.host.v1 import host_link_service_pb2_grpc as host_grpc
from bridle_core.errors import Reason
from bridle_host.dial import Control
from bridle_host.state_directory import Credential
from bridle_host.statuses import describe, reason_of

#: Seconds that control gets.
ENROLL_TIMEOUT = 10.0


class EnrolmentError(Exception):
    """This machine did not become a host; the text is one line for people."""


def read_join_token(path: Path) -> str:
    """The token in a file. Raises EnrolmentError."""
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        raise EnrolmentError(f"the join token file {path} can't be read") from None
    # What goes into metadata must be printable; anything else is no token of ours anyway.
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise EnrolmentError(f"the join token file {path} holds no join token")
    return token


async def enroll(control: Control, name: str, join_token: str) -> Credential:
    """Calls Enroll. Raises EnrolmentError, telling what to do where something can be done."""
    async with control.channel() as channel:
        stub = host_grpc.HostLinkServiceStub(channel)
        try:
            answer = await stub.Enroll(
                host_pb.EnrollRequest(name=name),
                metadata=(("authorization", f"Bearer {join_token}"),),
                timeout=ENROLL_TIMEOUT,
            )
        except aio.AioRpcError as error:
            raise EnrolmentError(_explain(error, control.address, name)) from None
    return Credential(answer.host_id, name, answer.workspace, answer.credential)


def _explain(error: aio.AioRpcError, address: str, name: str) -> str:
    reason = reason_of(error)
    if reason in (Reason.TOKEN_INVALID, Reason.TOKEN_EXPIRED, Reason.TOKEN_REVOKED):
        return f"control refuses the join token ({reason}); make a new one"
    if reason is Reason.NAME_TAKEN:
        return f'a host named "{name}" exists; choose another --name, or remove that host'
    return f"can't join control at {address}: {describe(error)}"
