"""Draw the diagrams of ARCHITECTURE.md from the tables that the code runs by.

    python scripts/diagrams.py           write them
    python scripts/diagrams.py --check   fail when they are not what the tables say

A diagram stands between `<!-- diagram: NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

from bridle_core import link, session
from bridle_core.phases import ENDED, Phase

PAGE = Path(__file__).resolve().parent.parent / "ARCHITECTURE.md"
PLACE = re.compile(r"(<!-- diagram: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def session_diagram() -> Iterable[str]:
    """Phases as states, moves as edges; moves that stay where they are, are left out."""
    edges: dict[tuple[Phase, Phase], list[str]] = defaultdict(list)
    for (before, move), after in session.TABLE.items():
        if before is not after:
            edges[before, after].append(move.value)
    yield "stateDiagram-v2"
    yield f"    [*] --> {Phase.STARTING.value}"
    for (before, after), moves in edges.items():
        label = ", ".join(move.lower().replace("_", " ") for move in moves)
        yield f"    {before.value} --> {after.value}: {label}"
    for phase in Phase:
        if phase in ENDED:
            yield f"    {phase.value} --> [*]"


def link_diagram() -> Iterable[str]:
    """One machine for each direction: stages as states, messages as edges."""
    yield "stateDiagram-v2"
    for side in link.Side:
        edges: dict[tuple[link.Stage, link.Stage], list[str]] = defaultdict(list)
        for (speaker, before, kind), after in link.ORDER.items():
            if speaker is side:
                edges[before, after].append(kind.value)
        yield f'    state "what {side.value} says" as {side.value} {{'
        yield f"        [*] --> {side.value}_{link.Stage.NEW.value}"
        for (before, after), kinds in edges.items():
            ends = f"{side.value}_{before.value} --> {side.value}_{after.value}"
            yield f"        {ends}: {', '.join(kinds)}"
        yield "    }"


DIAGRAMS: dict[str, Callable[[], Iterable[str]]] = {
    "session": session_diagram,
    "link": link_diagram,
}


def drawn(page: str) -> str:
    """The page with its diagrams drawn anew. KeyError for a name that is none."""

    def draw(match: re.Match[str]) -> str:
        lines = "\n".join(DIAGRAMS[match[2]]())
        return f"{match[1]}```mermaid\n{lines}\n```\n{match[3]}"

    return PLACE.sub(draw, page)


def main() -> int:
    """See the module."""
    page = PAGE.read_text(encoding="utf-8")
    wanted = drawn(page)
    if page == wanted:
        return 0
    if sys.argv[1:] == ["--check"]:
        print("ARCHITECTURE.md: its diagrams are not what the tables say: make diagrams")
        return 1
    PAGE.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
