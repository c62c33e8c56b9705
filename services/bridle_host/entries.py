"""Effects as entries of the journal: what is written of a run, in order.

One `Scribe` per run. Called by the session actor, and for runs of an earlier host process by the
manager.
"""

from __future__ import annotations

from collections.abc import Iterable

from bridle.host.v1 import host_link_service_pb2 as host_pb
from bridle.v1 import event_pb2
from bridle_core.commands import RunSpec
from bridle_core.effects import Answer, Emit, Keep, Live
from bridle_core.utf8 import clean
from bridle_host.events import EventCoder
from bridle_host.journal import Entry
from bridle_host.output_events import OutputCoder, name_of
from bridle_host.translate import answer_to


class Scribe:
    """See the module."""

    def __init__(self, spec: RunSpec, session_id: str, run: int, output_cap: int = 0) -> None:
        self._session_id = session_id
        self._run = run
        self._coder = EventCoder(spec, run, output_cap=output_cap)

    @property
    def output(self) -> OutputCoder:
        """What makes output into events, and so remembers between them."""
        return self._coder.output

    def entries(
        self, effects: Iterable[object], report: event_pb2.ArtifactsReported | None = None
    ) -> list[Entry]:
        """The entries of those effects that are written; the others are left out. `report`: what
        the performer adds to an ArtifactsReported among them."""
        out: list[Entry] = []
        emits: list[Emit] = []

        def write_events() -> None:
            encoded = self._coder.encode(emits, report)
            out.extend(Entry(self._session_id, self._run, event=event) for event in encoded)
            emits.clear()

        for effect in effects:
            match effect:
                case Emit():
                    emits.append(effect)
                case Answer():
                    write_events()
                    out.append(Entry(self._session_id, self._run, command=answer_to(effect)))
                case Keep():
                    write_events()
                    out.append(Entry(self._session_id, self._run, driver_state=effect.state))
                case _:
                    pass
        write_events()
        return out

    def piece(self, live: Live) -> host_pb.LiveTextPiece:
        """Live text as the link takes it."""
        return host_pb.LiveTextPiece(
            session_id=self._session_id,
            run=self._run,
            turn=live.turn,
            message_id=name_of(live.message_id),
            offset=live.offset,
            text=clean(live.text),
        )
