"""How a stream of the host link ends when something is wrong with it."""

from __future__ import annotations

import logging

from bridle_control.logs import kv
from bridle_core.errors import BridleError, Reason
from bridle_core.link import PROTOCOL_MAX, PROTOCOL_MIN, SILENCE_LIMIT, TWIN_PAUSE

_log = logging.getLogger("bridle.control.links")

_SUPPORTED = {"supported": f"{PROTOCOL_MIN}-{PROTOCOL_MAX}"}


class OverError(Exception):
    """The host ended the stream; what it had sent is committed."""


def out_of_place(what: str) -> BridleError:
    """A message that the protocol has no place for: a bug of the host. It is told not to dial."""
    _log.error("host broke the protocol", extra=kv(what=what))
    return BridleError(
        Reason.VERSION_UNSUPPORTED,
        f"the host link was not spoken as this control speaks it: {what}",
        metadata=_SUPPORTED,
    )


def no_common_version() -> BridleError:
    """The two sides speak no common version."""
    return BridleError(
        Reason.VERSION_UNSUPPORTED,
        f"this control speaks versions {PROTOCOL_MIN} to {PROTOCOL_MAX} of the host link",
        metadata=_SUPPORTED,
    )


def silent() -> BridleError:
    """The host said nothing for so long that it counts as lost."""
    text = f"nothing was heard from the host for {SILENCE_LIMIT:.0f} s"
    return BridleError(Reason.HOST_UNREACHABLE, text)


def reconsidered() -> BridleError:
    """The host has to come again, and be told which of its runs were given up meanwhile."""
    return BridleError(Reason.HOST_UNREACHABLE, "a run of this host was given up; connect again")


def twin(host_id: str) -> BridleError:
    """Another live process has the host's place, or took it a moment ago."""
    return BridleError(
        Reason.HOST_TWIN,
        "another live process is connected as this host",
        metadata={"host": host_id},
        retry_after=TWIN_PAUSE,
    )


def first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one that counts: a fault of ours, else what the host is told, else the plain end."""
    flat: list[BaseException] = []
    for error in group.exceptions:
        flat += [first_of(error)] if isinstance(error, BaseExceptionGroup) else [error]
    faults = [error for error in flat if not isinstance(error, BridleError | OverError)]
    told = [error for error in flat if isinstance(error, BridleError)]
    return (faults or told or flat)[0]
