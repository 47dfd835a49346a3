"""HTML as plain text that means the same: one table of what each element says where there is only text.

Nothing is fetched (RFC 9787 §7). What a browser would raise, strike out or hide is marked, since 10⁹ is not
109 and a stopped drug is not a drug; the cells of a table stay apart, the empty ones too.
Of style sheets only what changes the sense is read, by the name, class or identifier of an element.
A tag is whatever stands between ``<`` and ``>``: cruder than a browser, but linear on any input.
"""

import re
from dataclasses import dataclass, field
from html import unescape

from medmail_cli.smime.html_styles import BREAKS, HIDDEN, MARKS, Meaning, of_style, rules

_TOKEN = re.compile(
    r"<!--.*?(?:-->|\Z)"
    # a quoted value may hold ">"; one with "<" is more likely a quote that was forgotten
    r"|<(/?)([A-Za-z][^\s/>]*)((?:[^>=]+|=\s*(?:\"[^\"<]{0,4000}\"|'[^'<]{0,4000}')|=)*+)(?:>|\Z)"
    r"|<[!?/][^>]*(?:>|\Z)|[^<]+|<",
    re.DOTALL,
)
_ATTRIBUTE = re.compile(r"""([^\s=/"'<>]+)(?:\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+)))?""")
_UNREAD = {"script", "style", "title", "template", "rp", "noframes"}
_FOREIGN = {"svg", "math"}
"""Within these alone HTML knows elements that are closed at once."""
_BLOCKS = frozenset(
    re.findall(
        r"\S+",
        "address article aside blockquote body br caption center dd details dialog dir div dl dt fieldset "
        "figcaption figure footer form h1 h2 h3 h4 h5 h6 header hr legend li main menu nav ol optgroup p pre "
        "section summary svg table tbody textarea tfoot thead tr ul",
    )
)
_VOID = {"br", "hr", "img", "input", "wbr", "meta", "link", "col", "area", "base", "source"}
_CELLS = {"td", "th"}
_GROUPS = {"thead", "tbody", "tfoot"}
_ROWS = {"tr", "thead", "tbody", "tfoot", "table"}
_LISTS = {"ol", "ul", "menu", "dir", "dl"}
_ENDED_BY = {
    **dict.fromkeys(_CELLS, _CELLS),
    **dict.fromkeys(_ROWS - {"table"}, _CELLS | {"tr"}),
    "li": {"li"},
    "dt": {"dt", "dd"},
    "dd": {"dt", "dd"},
    "option": {"option"},
}
"""Elements whose beginning ends others that were left open."""
_STRUCTURE = _CELLS | _LISTS | {"table", "tr", "li", "dt", "dd", "option", "select"}
_LIST_STYLES = {
    "lower-alpha": "a",
    "lower-latin": "a",
    "upper-alpha": "A",
    "upper-latin": "A",
    "lower-roman": "i",
    "upper-roman": "I",
}
_KEPT = "\ue000"
_QUOTE, _UNQUOTE = "\ue001", "\ue002"
_OURS = re.compile("[\ue000-\ue002]")
"""Private characters, kept for the drawing together of blanks and for quotations."""
_RAISED = str.maketrans("0123456789+-−", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻")
_LOWERED = str.maketrans("0123456789+-−", "₀₁₂₃₄₅₆₇₈₉₊₋₋")
_FRACTION = re.compile("([0-9]?)([⁰¹²³⁴-⁹]{1,9})[ ]?[/⁄][ ]?([₀-₉]{1,9})")
_PLAIN = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹₀₁₂₃₄₅₆₇₈₉", "01234567890123456789")
_NOTHING_MARKED = re.compile(r"\[(HIDDEN|DEL|INS): \s*:\1\]")
_COPY_CLASS = "header-protection-legacy-display"
_ROMAN = tuple(
    zip(
        (1000, 900, 500, 400, 100, 90, 50, 40, 10, 9, 5, 4, 1),
        ["m", "cm", "d", "cd", "c", "xc", "l", "xl", "x", "ix", "v", "iv", "i"],
        strict=True,
    )
)
MOST_SPANNED = 10_000
"""Places in a table that cells of several columns or rows may fill, in one letter."""
_NOT_FILLED = "[SPANS CUT] "
"""Where that was not enough: from here on a value may stand under another heading."""


@dataclass(slots=True)
class _Open:
    """An element that was begun, and what is to be said where it ends."""

    tag: str
    start: int
    after: list[str] = field(default_factory=list)
    open: bool = True
    inside: "list[_Open]" = field(default_factory=list)
    number: int = 1
    step: int = 1
    counted_back: bool = False
    style: str = "1"
    places: list[tuple[int, str]] = field(default_factory=list)
    column: int = 0
    spans: dict[int, int] = field(default_factory=dict)
    has_table: bool = False
    keeps_breaks: bool = False


class _Writer:
    """What was written so far, and what is still open."""

    def __init__(self, rules: dict[str, Meaning]) -> None:
        self.rules = rules
        self.out: list[str] = []
        self.marks: dict[str, list[_Open]] = {}
        self.structure: list[_Open] = []
        self.counts: dict[str, int] = {}
        self.tables: list[_Open] = []
        self.lists: list[_Open] = []
        self.cells: list[_Open] = []
        self.preformatted = 0
        self.fresh = False  # nothing stands in the cell yet
        self.below_table = False  # the cell before ended with a table of its own
        self.spare = MOST_SPANNED
        self.cut = False

    def words(self, text: str) -> None:
        text = _OURS.sub("\ufffd", unescape(text))
        text = re.sub(r"[^\S\n]", _KEPT, text) if self.preformatted else re.sub(r"\s+", " ", text)
        self.fresh = self.fresh and not text.strip()
        self.out.append(text)

    def newline(self) -> None:
        if not self.fresh:
            self.out.append("\n")

    def begin(self, tag: str, attributes: dict[str, str]) -> None:
        while self.structure and self.structure[-1].tag in _ENDED_BY.get(tag, ()):
            self._close(self.structure.pop())
        if tag in _BLOCKS:
            self._end_marks("p")
            self.newline()
        if tag in _GROUPS and self.tables:
            self.tables[-1].spans.clear()
        marks = self._marks(tag, attributes)
        after = _said_after(tag, attributes) if attributes else ""
        # what says nothing is kept only so that its end is not taken for the end of one that does
        plain = not (marks or after or self.marks.get(tag))
        if tag in _VOID or (plain and tag not in _STRUCTURE):
            self._shown_alone(tag, attributes)
            return
        element = _Open(tag, len(self.out))
        if tag in _STRUCTURE:
            self._begin_structure(element, attributes)
        element.start = len(self.out)
        for before, closing in marks:
            if (before, closing) == BREAKS:
                element.keeps_breaks = True
                self.preformatted += 1
                continue
            element.start = len(self.out)
            self.out.append(before)
            element.after.insert(0, closing)
        if after:
            element.after.append(after)
        if tag in _STRUCTURE:
            return
        self.marks.setdefault(tag, []).append(element)
        if self.cells:
            self.cells[-1].inside.append(element)

    def _marks(self, tag: str, attributes: dict[str, str]) -> list[tuple[str, str]]:
        marks = [MARKS[tag]] if tag in MARKS else []
        meaning: Meaning = {}
        if self.rules:
            classes = [f".{name}" for name in attributes.get("class", "").lower().split()[:20]]
            names = ["", *classes, *([f"#{attributes['id'].lower()}"] if "id" in attributes else [])]
            for name in names:
                for key in (name, tag + name):
                    meaning |= self.rules.get(key, {})
        if style := attributes.get("style"):
            meaning |= of_style(style)
        if "hidden" in attributes:
            meaning["hidden"] = HIDDEN
        if tag in _CELLS:
            meaning.pop("vertical-align", None)
        for mark in meaning.values():
            if mark and mark not in marks:
                marks.append(mark)
        return marks

    def end(self, tag: str) -> None:
        if tag in _STRUCTURE:
            if self.counts.get(tag):
                while (element := self.structure.pop()).tag != tag:
                    self._close(element)
                self._close(element)
        else:
            self._end_marks(tag)
        if tag in _BLOCKS - {"tr", "li"}:  # the next begins a line anyway
            self.newline()

    def _end_marks(self, tag: str) -> None:
        stack = self.marks.get(tag, [])
        while stack and not stack[-1].open:
            stack.pop()
        if stack:
            self._close(stack.pop())

    def finish(self) -> str:
        for stack in self.marks.values():
            for element in reversed(stack):
                if element.open:
                    self._close(element)
        while self.structure:
            self._close(self.structure.pop())
        return "".join(self.out)

    def _close(self, element: _Open) -> None:
        element.open = False
        self.preformatted -= element.keeps_breaks
        if element.tag in _CELLS:
            for inner in reversed(element.inside):
                if inner.open:
                    self._close(inner)
            while len(self.out) > element.start and not self.out[-1].strip(" \n"):
                self.out.pop()
            self.cells.pop()
            self.fresh = False
            self.below_table = element.has_table
        if element.tag in _STRUCTURE:
            self.counts[element.tag] -= 1
        if element.tag == "tr" and self.tables:
            self._spanned(self.tables[-1])
        elif element.tag == "table":
            self.tables.pop()
            if self.cells:
                self.cells[-1].has_table = True
        elif element.tag in _LISTS:
            self.lists.pop()
            if element.tag == "ol" and element.step < 0 and element.counted_back:
                for number, (position, style) in zip(
                    range(len(element.places), 0, -1), element.places, strict=True
                ):
                    self.out[position] = _numbered(number, style)
        elif element.tag == "select":
            if element.places:
                self.out[element.places[0][0]] = "☑ "  # the first is chosen where none is
            self.out.append(" ")
        raised = element.after and element.after[0] == ")" and self.out[element.start] in ("^(", "_(")
        if raised and len(self.out) - element.start <= 4:
            words = "".join(self.out[element.start + 1 :]).strip()
            if 0 < len(words) <= 12 and re.fullmatch("[0-9+−-]+", words):
                table = _RAISED if self.out[element.start] == "^(" else _LOWERED
                self.out[element.start :] = [words.translate(table)]
                del element.after[0]
        self.out += element.after

    def _begin_structure(self, element: _Open, attributes: dict[str, str]) -> None:
        tag = element.tag
        self.structure.append(element)
        self.counts[tag] = self.counts.get(tag, 0) + 1
        if tag == "table":
            self.tables.append(element)
        elif tag == "tr" and self.tables:
            self.tables[-1].column = 0
        elif tag in _CELLS:
            if self.tables:
                self._begin_cell(element, self.tables[-1], attributes)
            self.cells.append(element)
            self.fresh = True
        elif tag in _LISTS:
            element.style = _list_style(attributes, "1")
            element.step = -1 if "reversed" in attributes else 1
            element.counted_back = element.step < 0 and "start" not in attributes
            element.number = _integer(attributes.get("start"), 1)
            self.lists.append(element)
        elif tag == "li" and self.lists:
            self._begin_item(self.lists[-1], attributes)
        elif tag == "dd":
            self.out.append(_KEPT * 2)
        elif tag == "option":
            within = next((s for s in reversed(self.structure[-3:]) if s.tag == "select"), None)
            chosen = "selected" in attributes
            if within is not None and chosen:
                within.number, within.places = 0, []
            elif within is not None and within.number and not within.places:
                within.places = [(len(self.out) + 1, "")]
            self.out += [" ", "☑ " if chosen else "☐ "]
        elif tag == "select" and "multiple" in attributes:
            element.number = 0

    def _begin_item(self, parent: _Open, attributes: dict[str, str]) -> None:
        self.out.append(_KEPT * 2 * min(len(self.lists) - 1, 10))
        if parent.tag != "ol":
            self.out.append("• ")
            return
        style = _list_style(attributes, parent.style)
        if "value" in attributes:
            parent.number = _integer(attributes["value"], parent.number)
        parent.places.append((len(self.out), style))
        self.out.append(_numbered(parent.number, style))
        parent.number += parent.step

    def _begin_cell(self, cell: _Open, table: _Open, attributes: dict[str, str]) -> None:
        self._spanned(table)
        if table.column:  # behind a table within a table begins no further cell of its last row
            self.out.append("\n| " if self.below_table else " | ")
        across = max(1, min(_integer(attributes.get("colspan"), 1), 1000))
        down = _integer(attributes.get("rowspan"), 1) or 1_000_000  # 0 is all that follow
        room = MOST_SPANNED // 10 - len(table.spans) if down > 1 else across
        for column in range(table.column, table.column + min(across, room) if down > 1 else 0):
            table.spans[column] = down - 1
        table.column += across
        filled = min(across - 1, self.spare)
        self.spare -= filled
        if filled < across - 1 or room < across:
            self._spans_cut()
        cell.after.append(" | ←" * filled)

    def _spanned(self, table: _Open) -> None:
        """Fill the places that cells of rows above reach into, so that no value slides aside."""
        while table.column in table.spans:
            if self.spare <= 0:
                self._spans_cut()
                return
            self.spare -= 1
            table.spans[table.column] -= 1
            if table.spans[table.column] <= 0:
                del table.spans[table.column]
            self.out.append(" | ↑" if table.column else "↑")
            table.column += 1

    def _spans_cut(self) -> None:
        if not self.cut:
            self.out.append(_NOT_FILLED)
        self.cut = True

    def _shown_alone(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "hr":
            self.out.append("----------\n")
        elif tag == "img" and attributes.get("alt", "").strip():
            self.words(f"[{attributes['alt'].strip()}]")
        elif tag == "input":
            kind, on = attributes.get("type", "text").lower(), "checked" in attributes
            if kind == "checkbox":
                self.words("☑ " if on else "☐ ")
            elif kind == "radio":
                self.words("◉ " if on else "○ ")
            elif kind != "hidden" and attributes.get("value"):
                self.words(f"[{attributes['value']}]")


def to_text(html: str, *, hide_copy: bool = False) -> str:
    """The words of an HTML text with what its elements mean; links show where they lead.

    ``hide_copy`` leaves out the copy of header fields (RFC 9788 §4.5.3).
    """
    writer = _Writer(rules(html))
    unread = ""
    depth = foreign = 0
    for token in _TOKEN.finditer(html):
        piece, closing, tag = token[0], bool(token[1]), (token[2] or "").lower()
        if unread:
            if tag == unread:
                depth += -1 if closing else 1
                unread = unread if depth else ""
        elif not tag:
            if not piece.startswith(("<!", "<?", "</")):
                writer.words(piece)
        elif not closing and (tag in _UNREAD or (hide_copy and tag == "div" and _COPY_CLASS in piece)):
            if not (foreign and piece.endswith("/>")):
                unread, depth = tag, 1
        elif closing:
            foreign -= foreign > 0 and tag in _FOREIGN
            writer.end(tag)
        else:
            foreign += tag in _FOREIGN and not piece.endswith("/>")
            writer.begin(tag, _attributes(token[3]) if token[3] else {})
    return _lines(writer.finish())


def _said_after(tag: str, attributes: dict[str, str]) -> str:
    if tag == "abbr" and attributes.get("title", "").strip():
        return f" ({_clean(attributes['title'])})"
    href = attributes.get("href", "").strip() if tag == "a" else ""
    return f" <{_clean(href.split()[0])}>" if href.lower().startswith(("http:", "https:")) else ""


def _lines(written: str) -> str:
    written = re.sub(r"\n{3,}", "\n\n", written)
    written = _FRACTION.sub(_fraction, _NOTHING_MARKED.sub("", written))
    out: list[str] = []
    quoted = 0
    for line in written.split("\n"):
        quoted += line.count(_QUOTE)
        words = line.replace(_QUOTE, "").replace(_UNQUOTE, "")
        words = " ".join(words.split()).replace(_KEPT + " ", _KEPT).replace(_KEPT, " ").rstrip()
        empty = not words.strip(" |↑←")
        out.append("" if empty else "> " * min(quoted, 10) + words)
        quoted = max(0, quoted - line.count(_UNQUOTE))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(out)).strip() + "\n"


def _fraction(match: re.Match[str]) -> str:
    whole = f"{match[1]} " if match[1] else ""
    return f"{whole}{match[2].translate(_PLAIN)}/{match[3].translate(_PLAIN)}"


def _attributes(text: str) -> dict[str, str]:
    attributes: dict[str, str] = {}
    for match in _ATTRIBUTE.finditer(text[:4000]):
        attributes.setdefault(match[1].lower(), unescape(match[2] or match[3] or match[4] or ""))
    return attributes


def _clean(text: str) -> str:
    return _OURS.sub("\ufffd", " ".join(text.split()))


def _integer(text: str | None, default: int) -> int:
    match = re.match(r"\s*(-?[0-9]{1,6})(?![0-9])", text or "")
    return int(match[1]) if match else default


def _list_style(attributes: dict[str, str], default: str) -> str:
    named = re.search(
        r"list-style(?:-type)?\s*:[^;]*?(lower|upper)-(alpha|latin|roman)", attributes.get("style", "")
    )
    style = _LIST_STYLES[f"{named[1]}-{named[2]}"] if named else attributes.get("type", default)
    return style if style in ("1", "a", "A", "i", "I") else default


def _numbered(number: int, style: str) -> str:
    if style in ("a", "A") and 0 < number <= 702:
        first, last = divmod(number - 1, 26)
        said = (chr(96 + first) if first else "") + chr(97 + last)
    elif style in ("i", "I") and 0 < number < 4000:
        said, rest = "", number
        for value, sign in _ROMAN:
            said += sign * (rest // value)
            rest %= value
    else:
        said = str(number)
    return f"{said.upper() if style.isupper() else said}. "
