"""What was said in a session, rendered for a model that is to go on with it.

Pure. Control renders it from its log for a run that is resumed, the host for an agent that takes
another's place within a run.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Transcript:
    """text: what comes before the first input of the new agent; "" where nothing was said.

    left_out: what it does not tell, a line each for people.
    """

    text: str = field(default="", repr=False)
    left_out: tuple[str, ...] = ()
