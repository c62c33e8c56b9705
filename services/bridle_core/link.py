"""The link between a host and control, without I/O: what may come when, and what silence means.

Both sides drive a `LinkMachine` each: every message that is read goes through `receive`, every one
that is written through `send`, and `tick` is called when `deadline` is reached. The machine holds
the order of the handshake, the heartbeats and the silence; it knows messages by their `Kind` only,
so it is the same for every transport. Times are seconds of any monotonic clock of the caller.

    host                    control
    HELLO             →
                      ←     WELCOME
    INVENTORY (1..n)  →
                      ←     RECONCILE
    RECORDS, LIVE_TEXTS →
                      ←     COMMANDS, WITHDRAW, ACKNOWLEDGE, SESSION_TOKEN, READ_ARTIFACT, FORGET
    HEARTBEAT, GOODBYE → ←  HEARTBEAT, GOODBYE

Beside the machine stand the parts that a link needs and that have rules worth a test of their own:
`Backoff` and `redial_after` (when a host dials again), `negotiate` (the version), `Standstill` (how
long what is read now may have waited), and `CommandWindow` (which commands control still has to
hand over on this stream). Who of several processes with one identity has the place is in
`link_place`. Nothing here may read a clock, draw a random number or touch a socket.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum

from bridle_core.errors import Reason

#: The versions of the protocol that this code speaks.
PROTOCOL_MIN = 1
PROTOCOL_MAX = 1
#: Seconds between two heartbeats of one side.
HEARTBEAT_EVERY = 5.0
#: Seconds without any message after which a side ends the stream: two heartbeats and a little. With
#: what it takes to act on it, a side that stands still is noticed within 15 s.
SILENCE_LIMIT = 12.0


class Side(Enum):
    """Which end of the link a machine is."""

    HOST = "host"
    CONTROL = "control"


class Kind(StrEnum):
    """The messages of the link; the values are the names of the fields of both oneofs."""

    HELLO = "hello"
    INVENTORY = "inventory"
    RECORDS = "records"
    LIVE_TEXTS = "live_texts"
    WELCOME = "welcome"
    RECONCILE = "reconcile"
    COMMANDS = "commands"
    WITHDRAW = "withdraw"
    ACKNOWLEDGE = "acknowledge"
    SESSION_TOKEN = "session_token"
    READ_ARTIFACT = "read_artifact"
    FORGET = "forget"
    HEARTBEAT = "heartbeat"
    GOODBYE = "goodbye"


class Stage(Enum):
    """How far one direction of the stream is."""

    #: Nothing was said.
    NEW = "new"
    #: HELLO (by the host) or WELCOME (by control) was said.
    GREETED = "greeted"
    #: The host has said a part of its inventory.
    LISTING = "listing"
    #: The handshake of this direction is over.
    OPEN = "open"
    #: GOODBYE was said: nothing may follow.
    CLOSED = "closed"


#: What each side may say at each stage, and the stage after it. What is not here is a violation.
#: An INVENTORY that does not say `complete` stays at LISTING (see `LinkMachine._step`).
ORDER: Mapping[tuple[Side, Stage, Kind], Stage] = {
    (Side.HOST, Stage.NEW, Kind.HELLO): Stage.GREETED,
    (Side.HOST, Stage.GREETED, Kind.INVENTORY): Stage.OPEN,
    (Side.HOST, Stage.GREETED, Kind.GOODBYE): Stage.CLOSED,
    (Side.HOST, Stage.LISTING, Kind.INVENTORY): Stage.OPEN,
    (Side.HOST, Stage.LISTING, Kind.HEARTBEAT): Stage.LISTING,
    (Side.HOST, Stage.LISTING, Kind.GOODBYE): Stage.CLOSED,
    (Side.HOST, Stage.OPEN, Kind.RECORDS): Stage.OPEN,
    (Side.HOST, Stage.OPEN, Kind.LIVE_TEXTS): Stage.OPEN,
    (Side.HOST, Stage.OPEN, Kind.HEARTBEAT): Stage.OPEN,
    (Side.HOST, Stage.OPEN, Kind.GOODBYE): Stage.CLOSED,
    (Side.CONTROL, Stage.NEW, Kind.WELCOME): Stage.GREETED,
    (Side.CONTROL, Stage.NEW, Kind.GOODBYE): Stage.CLOSED,
    (Side.CONTROL, Stage.GREETED, Kind.RECONCILE): Stage.OPEN,
    (Side.CONTROL, Stage.GREETED, Kind.HEARTBEAT): Stage.GREETED,
    (Side.CONTROL, Stage.GREETED, Kind.GOODBYE): Stage.CLOSED,
    (Side.CONTROL, Stage.OPEN, Kind.COMMANDS): Stage.OPEN,
    (Side.CONTROL, Stage.OPEN, Kind.WITHDRAW): Stage.OPEN,
    (Side.CONTROL, Stage.OPEN, Kind.ACKNOWLEDGE): Stage.OPEN,
    (Side.CONTROL, Stage.OPEN, Kind.SESSION_TOKEN): Stage.OPEN,
    (Side.CONTROL, Stage.OPEN, Kind.READ_ARTIFACT): Stage.OPEN,
    (Side.CONTROL, Stage.OPEN, Kind.FORGET): Stage.OPEN,
    (Side.CONTROL, Stage.OPEN, Kind.HEARTBEAT): Stage.OPEN,
    (Side.CONTROL, Stage.OPEN, Kind.GOODBYE): Stage.CLOSED,
}

#: What the other side must have reached before a side may go on: (side, kind) → its peer's stage.
#: Control welcomes whom it has heard, and reconciles a whole inventory; a host lists once welcomed.
NEEDS: Mapping[tuple[Side, Kind], Stage] = {
    (Side.CONTROL, Kind.WELCOME): Stage.GREETED,
    (Side.HOST, Kind.INVENTORY): Stage.GREETED,
    (Side.CONTROL, Kind.RECONCILE): Stage.OPEN,
}

_RANK = {Stage.NEW: 0, Stage.GREETED: 1, Stage.LISTING: 2, Stage.OPEN: 3, Stage.CLOSED: 4}


class ProtocolViolation(Exception):  # noqa: N818 - a name for people; it never crosses the wire
    """A message out of place: a bug of the side that said it. Ends the stream."""

    def __init__(self, side: Side, stage: Stage, kind: Kind) -> None:
        super().__init__(f"{kind.value} from {side.value} at stage {stage.value}")
        self.side = side
        self.stage = stage
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Beat:
    """A heartbeat that is to be written now, with these two numbers."""

    count: int
    received: int


class Silence(Exception):  # noqa: N818
    """The other side said nothing for SILENCE_LIMIT seconds: end the stream, it is lost."""


class LinkMachine:
    """One connection, seen from one side. Made when the stream opens, thrown away when it ends.

    Heartbeats: each side counts its own up and sends one every `heartbeat_every` seconds. An answer
    is a heartbeat too, but it repeats the answerer's last count, and only a count that is new is
    answered; so two sides never answer each other's answers.
    """

    def __init__(
        self,
        side: Side,
        now: float,
        *,
        heartbeat_every: float = HEARTBEAT_EVERY,
        silence_limit: float = SILENCE_LIMIT,
    ) -> None:
        self.side = side
        self.peer = Side.CONTROL if side is Side.HOST else Side.HOST
        self._stage = {Side.HOST: Stage.NEW, Side.CONTROL: Stage.NEW}
        self._every = heartbeat_every
        self._limit = silence_limit
        self._heard = now
        self._beat_due = now + heartbeat_every
        self._count = 0
        self._beat_sent = now
        self._received = 0
        #: Seconds from a heartbeat to its answer, the newest measurement; None before the first.
        self.round_trip: float | None = None

    @property
    def ready(self) -> bool:
        """Whether the handshake is over in both directions."""
        return all(stage is Stage.OPEN for stage in self._stage.values())

    @property
    def said_goodbye(self) -> bool:
        """Whether the other side ended the stream on purpose."""
        return self._stage[self.peer] is Stage.CLOSED

    def stage(self, side: Side) -> Stage:
        """How far a side is."""
        return self._stage[side]

    def last_heard(self) -> float:
        """When the other side last said anything (the start, if it never did)."""
        return self._heard

    def excuse(self, now: float) -> None:
        """This side does not read at present, as it can take no more: no silence of the other."""
        self._heard = now

    def receive(
        self, kind: Kind, now: float, *, complete: bool = True, count: int = 0, received: int = 0
    ) -> Beat | None:
        """Take a message of the other side. Returns the answer to a heartbeat, where one is due.

        `complete` is that of an INVENTORY; `count` and `received` are those of a HEARTBEAT.
        Raises ProtocolViolation.
        """
        self._step(self.peer, kind, complete)
        self._heard = now
        if kind is not Kind.HEARTBEAT:
            return None
        if received == self._count > 0:
            self.round_trip = now - self._beat_sent
        if count <= self._received:
            return None
        self._received = count
        return Beat(self._count, count) if self._may_beat() else None

    def send(self, kind: Kind, *, complete: bool = True) -> None:
        """Note that a message is written. Raises ProtocolViolation where it is our own bug."""
        self._step(self.side, kind, complete)

    def tick(self, now: float) -> Beat | None:
        """Look at the clock: the heartbeat that is due, if one is. Raises Silence."""
        if now >= self._heard + self._limit:
            raise Silence
        if now < self._beat_due:
            return None
        self._beat_due = now + self._every
        return self.probe(now) if self._may_beat() else None

    def probe(self, now: float) -> Beat:
        """A heartbeat out of turn, to learn soon whether the other side is there."""
        self._count += 1
        self._beat_sent = now
        return Beat(self._count, self._received)

    def deadline(self) -> float:
        """When `tick` is to be called next."""
        return min(self._beat_due, self._heard + self._limit)

    def _may_beat(self) -> bool:
        return (self.side, self._stage[self.side], Kind.HEARTBEAT) in ORDER

    def _step(self, side: Side, kind: Kind, complete: bool) -> None:
        stage = self._stage[side]
        after = ORDER.get((side, stage, kind))
        needed = NEEDS.get((side, kind))
        other = self._stage[Side.CONTROL if side is Side.HOST else Side.HOST]
        if after is None or (needed is not None and _RANK[other] < _RANK[needed]):
            raise ProtocolViolation(side, stage, kind)
        if kind is Kind.INVENTORY and not complete:
            after = Stage.LISTING
        self._stage[side] = after


def negotiate(
    peer_min: int, peer_max: int, own_min: int = PROTOCOL_MIN, own_max: int = PROTOCOL_MAX
) -> int | None:
    """The highest version that both sides speak, or None."""
    highest = min(peer_max, own_max)
    return highest if highest >= max(peer_min, own_min) else None


class Backoff:
    """The pauses between a host's dials: doubled from `first` to `limit` seconds, ± `jitter`.

    The limit is what a host may be late by when control, or the way to it, is back.
    """

    def __init__(self, first: float = 0.2, limit: float = 4.0, jitter: float = 0.2) -> None:
        self._first = first
        self._limit = limit
        self._jitter = jitter
        self._next = first

    def next(self, chance: float) -> float:
        """The next pause in seconds. `chance` is a random number of the caller's, 0 ≤ n ≤ 1."""
        pause = self._next * (1 + self._jitter * (2 * chance - 1))
        self._next = min(self._next * 2, self._limit)
        return pause

    def reset(self) -> None:
        """Begin again: the link was up, with its handshake over."""
        self._next = self._first


class Redial(Enum):
    """What a host does when its stream has ended."""

    #: Dial again after the next pause of the Backoff.
    SOON = "soon"
    #: Another process has this identity: dial again after TWIN_PAUSE seconds. Until it is welcomed
    #: again, this one has no place.
    LATER = "later"
    #: Dialling again can't help: say why and end.
    NEVER = "never"


#: Seconds that a host waits when another live process has its identity.
TWIN_PAUSE = 15.0

_REDIAL = {
    Reason.TOKEN_MISSING: Redial.NEVER,
    Reason.TOKEN_INVALID: Redial.NEVER,
    Reason.TOKEN_EXPIRED: Redial.NEVER,
    Reason.TOKEN_REVOKED: Redial.NEVER,
    Reason.VERSION_UNSUPPORTED: Redial.NEVER,
    Reason.HOST_TWIN: Redial.LATER,
    Reason.EPOCH_FENCED: Redial.LATER,
}


def redial_after(reason: Reason | None, *, by_itself: bool = False) -> Redial:
    """What to do after a stream that ended with this reason (None: without one).

    `by_itself`: it was fenced by a stream of this very process, which has the place then: an older
    attempt came late, or this stream ended unseen.
    """
    if reason is None or (by_itself and reason is Reason.EPOCH_FENCED):
        return Redial.SOON
    return _REDIAL.get(reason, Redial.SOON)


class Standstill:
    """How long what is read now may have waited, as this process stood still.

    A process that was stopped, or whose event loop was blocked, reads afterwards what came in the
    meantime, with times to live that were counted from when it was sent. `beat` is called every
    EVERY seconds; what is late is how long nothing was done.
    """

    EVERY = 1.0
    #: What lay in the buffers is read within so many seconds after a standstill.
    GRACE = 0.5

    def __init__(self, now: float) -> None:
        self._beaten = now
        self._lasted = 0.0
        self._over = now

    def beat(self, now: float) -> None:
        """The event loop is at work."""
        late = now - self._beaten - self.EVERY
        if late >= self.EVERY:
            self._lasted, self._over = late + self.EVERY, now
        self._beaten = now

    def behind(self, now: float) -> float:
        """Seconds that a message which is read now may be old; 0 where nothing stood still."""
        still = now - self._beaten
        if still >= 2 * self.EVERY:
            return still  # the beat comes after this, in the same turn of the loop
        return self._lasted if now < self._over + self.GRACE else 0.0


class CommandWindow:
    """Control's memory of what it has handed over on one stream.

    A fresh stream has a fresh window, so every command without an answer goes out again, in order;
    within a stream each goes out once. `limit` bounds what a host has to hold unanswered: what is
    beyond it waits in control's rows for the next hint.
    """

    def __init__(self, limit: int = 1024) -> None:
        self._limit = limit
        self._out: set[str] = set()

    @property
    def room(self) -> int:
        """How many more commands may be handed over now."""
        return self._limit - len(self._out)

    def select(self, command_ids: Iterable[str]) -> list[str]:
        """Of these, in this order, the ones to hand over now; they count as handed over."""
        chosen: list[str] = []
        for command_id in command_ids:
            if self.room == 0:
                break
            if command_id not in self._out:
                self._out.add(command_id)
                chosen.append(command_id)
        return chosen

    def holds(self, command_id: str) -> bool:
        """Whether it was handed over on this stream and has no answer."""
        return command_id in self._out

    def answered(self, command_id: str) -> bool:
        """Its answer was committed, or it was withdrawn. True when it was out on this stream."""
        if command_id not in self._out:
            return False
        self._out.remove(command_id)
        return True
