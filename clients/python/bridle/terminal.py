"""The last edge before a terminal: makes text of agents, hosts and other users harmless.

Everything that did not come from this program goes through a `Cleaner`, `clean_text` or
`clean_line` before it is printed; what they return holds only printable characters, newlines and
tabs. Our own colours are put around it afterwards, by `paint`. Logs and `--json` keep the text as
it was: `escape_json` only writes what a terminal would obey as JSON escapes.

Pure: prints nothing. Called by render.py and by the command line.
"""

from __future__ import annotations

import re
import unicodedata
from enum import Enum, auto

_ESC, _CAN, _SUB, _BEL = "\x1b", "\x18", "\x1a", "\x07"
_CSI, _ST = "\x9b", "\x9c"
#: C1 introducers of a string that ends with ST: DCS, SOS, OSC, PM, APC.
_STRINGS = frozenset("\x90\x98\x9d\x9e\x9f")
#: The same after an ESC.
_ESC_STRINGS = frozenset("PX]^_")

#: No sequence that a terminal knows is longer. A longer one would be a way to hide text: what
#: follows is shown.
SEQUENCE_CAP = 64
STRING_CAP = 4096
#: Marks on one letter. More of them would run over the lines above and below.
MARKS_CAP = 4

_ASCII_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
#: Printable by their category, and yet seen by nobody: fillers and selectors that hide text.
_INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0\u2800") | {
    chr(code)
    for first, last in ((0x180B, 0x180F), (0xFE00, 0xFE0E), (0xE0100, 0xE01EF))
    for code in range(first, last + 1)
}
_JSON_UNSAFE = re.compile(
    "[\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]"
)


class _State(Enum):
    GROUND = auto()
    ESCAPE = auto()  # after ESC
    CONTROL = auto()  # in a CSI sequence
    STRING = auto()  # in an OSC, DCS, SOS, PM or APC string
    STRING_ESCAPE = auto()  # in one of those, after an ESC


class Cleaner:
    """Cleans one stream of text that comes in pieces, such as the output of one tool call.

    A sequence that is split over pieces is recognised all the same. Sequences are left out, other
    control characters are shown by their pictures (␇), invisible ones by their numbers (<U+202E>).
    A newline ends every sequence, so that none can swallow more than its own line.
    """

    def __init__(self) -> None:
        self._state = _State.GROUND
        self._length = 0  # of the sequence that is open
        self._return = False  # a carriage return was the last character
        self._marks = 0  # combining marks since the last letter

    def feed(self, text: str) -> str:
        """The harmless form of the next piece."""
        plain = self._state is _State.GROUND and not self._return and not self._marks
        if plain and text.isascii() and not _ASCII_CONTROL.search(text):
            return text
        out: list[str] = []
        for char in text:
            self._step(char, out)
        return "".join(out)

    def _step(self, char: str, out: list[str]) -> None:
        if self._return:
            self._return = False
            if char not in "\r\n":
                out.append("\n")  # a lone one would write over what stands in the line
        if char == "\r":
            self._state, self._return = _State.GROUND, True
        elif char == "\n" or char in (_CAN, _SUB):
            self._state = _State.GROUND
            out.append(self._shown(char))
        elif self._state is _State.GROUND:
            self._ground(char, out)
        else:
            self._in_sequence(char, out)

    def _ground(self, char: str, out: list[str]) -> None:
        if char == _ESC:
            self._enter(_State.ESCAPE)
        elif char == _CSI:
            self._enter(_State.CONTROL)
        elif char in _STRINGS:
            self._enter(_State.STRING)
        else:
            out.append(self._shown(char))

    def _enter(self, state: _State) -> None:
        self._state, self._length = state, 0

    def _in_sequence(self, char: str, out: list[str]) -> None:
        self._length += 1
        in_string = self._state in (_State.STRING, _State.STRING_ESCAPE)
        if self._length > (STRING_CAP if in_string else SEQUENCE_CAP):
            self._state = _State.GROUND
            self._ground(char, out)
        elif self._state is _State.ESCAPE:
            self._after_escape(char, out)
        elif self._state is _State.CONTROL:
            self._in_control(char, out)
        elif char in (_BEL, _ST) or (self._state is _State.STRING_ESCAPE and char == "\\"):
            self._state = _State.GROUND
        elif self._state is _State.STRING_ESCAPE:
            # An ESC that ends no string begins another sequence.
            self._state, self._length = _State.ESCAPE, 0
            self._after_escape(char, out)
        elif char == _ESC:
            self._state = _State.STRING_ESCAPE

    def _after_escape(self, char: str, out: list[str]) -> None:
        if char == "[":
            self._enter(_State.CONTROL)
        elif char in _ESC_STRINGS:
            self._enter(_State.STRING)
        elif " " <= char <= "/":
            pass  # an intermediate; the final one is to come
        elif "0" <= char <= "~":
            self._state = _State.GROUND
        else:
            self._state = _State.GROUND
            self._ground(char, out)

    def _in_control(self, char: str, out: list[str]) -> None:
        if "@" <= char <= "~":
            self._state = _State.GROUND
        elif not " " <= char <= "?":
            self._state = _State.GROUND
            self._ground(char, out)

    def _shown(self, char: str) -> str:
        if " " <= char <= "~" or char in "\n\t":
            self._marks = 0
            return char
        if char < " ":
            return chr(0x2400 + ord(char))
        if char == "\x7f":
            return "\u2421"
        category = unicodedata.category(char)
        if category == "Zs":
            return " "
        if category in ("Mn", "Me"):
            self._marks += 1
            if self._marks > MARKS_CAP:
                return ""
        else:
            self._marks = 0
        if char in _INVISIBLE or not char.isprintable():
            return f"<U+{ord(char):04X}>"
        return char


def clean_text(text: str) -> str:
    """The harmless form of a whole text; newlines and tabs stay."""
    cleaner = Cleaner()
    return cleaner.feed(text) + cleaner.feed("\n")[:-1]


def clean_line(text: str) -> str:
    """The harmless form of a text that must stay in one line: its newlines are shown as ⏎."""
    return clean_text(text).rstrip("\n").replace("\n", "⏎").replace("\t", " ")


def decode(data: bytes) -> str:
    """Bytes that may be no UTF-8 as text; what can't be decoded is written as \\xNN."""
    return data.decode("utf-8", "backslashreplace")


def escape_json(text: str) -> str:
    """JSON text with everything in it that a terminal would obey, or not show, as escapes.

    Takes what a JSON writer has made (so that U+0000 to U+001F are escapes already); such
    characters stand only within strings, hence the value stays the same.
    """
    return _JSON_UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def width(text: str) -> int:
    """How many cells of a terminal a clean line takes."""
    if text.isascii():
        return len(text)
    return sum(map(_cells, text))


def cut(text: str, cells: int) -> str:
    """A clean line, shortened to at most `cells` cells with an ellipsis at its end.

    Looks at no more of it than can be seen: lines may be long, and are drawn again and again.
    """
    if len(text) <= cells and text.isascii():
        return text
    taken = end = 0
    for index, char in enumerate(text):
        taken += _cells(char)
        if taken > cells:
            return text[:end] + "…" if cells > 0 else ""
        if taken < cells:
            end = index + 1
    return text


def _cells(char: str) -> int:
    if char < "\x7f":
        return 1
    if unicodedata.category(char) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


_STYLES = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "blue": "34",
    "magenta": "35",
    "cyan": "36",
}


def paint(text: str, style: str, colour: bool) -> str:
    """Clean text in a style ("red", "bold cyan"); as it is where there is no colour."""
    if not (colour and style and text):
        return text
    codes = ";".join(_STYLES[name] for name in style.split())
    return f"\x1b[{codes}m{text}\x1b[0m"
