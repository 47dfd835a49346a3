"""What the style of an HTML element says of its words: struck out, raised, lowered or not shown.

Only simple rules of style sheets are read, by the name, class or identifier of an element.
"""

import re

BREAKS = ("", "")
"""No mark: blanks and line breaks among its words are kept."""
MARKS = {
    "pre": BREAKS,
    "textarea": BREAKS,
    "sup": ("^(", ")"),
    "sub": ("_(", ")"),
    "s": ("[DEL: ", " :DEL]"),
    "strike": ("[DEL: ", " :DEL]"),
    "del": ("[DEL: ", " :DEL]"),
    "ins": ("[INS: ", " :INS]"),
    "q": ("“", "”"),
    "rt": (" (", ")"),
    "blockquote": ("\ue001", "\ue002"),
}
"""What stands before and after an element's words."""
HIDDEN = ("[HIDDEN: ", " :HIDDEN]")
_NONE = r"0*\.?0*(?:[a-z]+|%)?(?:!.*)?\Z"
_STYLES: dict[str, tuple[tuple[re.Pattern[str], tuple[str, str]], ...]] = {
    "text-decoration": ((re.compile(".*line-through"), MARKS["del"]),),
    "vertical-align": (
        (re.compile(r"super|text-top|(?!0*\.?0*(?:[a-z%]|\Z))[0-9.]"), MARKS["sup"]),
        (re.compile(r"sub|text-bottom|-(?!0*\.?0*(?:[a-z%]|\Z))[0-9.]"), MARKS["sub"]),
    ),
    "white-space": ((re.compile("pre|break-spaces"), BREAKS),),
    "display": ((re.compile("none"), HIDDEN),),
    "visibility": ((re.compile("hidden|collapse"), HIDDEN),),
    "font-size": ((re.compile(_NONE), HIDDEN),),
    "opacity": ((re.compile(_NONE), HIDDEN),),
    "mso-hide": ((re.compile("all"), HIDDEN),),
    "color": ((re.compile(r"transparent|(?:rgb|hsl)a?\((?:(?:[^,)]*,){3}|[^)/]*/)0*\.?0*%?\)"), HIDDEN),),
    "text-indent": ((re.compile("-[0-9]{3}"), HIDDEN),),
    "left": ((re.compile("-[0-9]{3}"), HIDDEN),),
    "top": ((re.compile("-[0-9]{3}"), HIDDEN),),
    "transform": ((re.compile(r".*scale\(0"), HIDDEN),),
    "clip": ((re.compile(r"rect\([01](?:px)?[, ]"), HIDDEN),),
}
"""What a style says of an element's words, by property; values are in lower case and without blanks."""
Meaning = dict[str, tuple[str, str] | None]
"""By property the marks it asks for, or None where it asks for none, whatever was said before."""
_EXTENTS = {"height", "max-height", "width", "max-width"}
_SHEET = re.compile(r"<style\b[^>]*>(.*?)(?:</style|\Z)", re.DOTALL | re.IGNORECASE)
_SHEET_PIECE = re.compile(r"@[^{};]*[;{]?|[{}]|[^{}@]+")
_SELECTOR = re.compile(r"(?:[a-z][a-z0-9]*)?(?:[.#][\w-]+)?")
_LONGEST_SELECTOR, _LONGEST_STYLE = 500, 20_000


def rules(html: str) -> dict[str, Meaning]:
    """What the style sheets say of elements by name, class or identifier, as far as it changes the sense.

    What holds for some screens or on paper alone does not count.
    """
    meanings: dict[str, Meaning] = {}
    for sheet in _SHEET.findall(html):
        depth = 0
        flat: list[str] = []
        for piece in _SHEET_PIECE.findall(re.sub(r"/\*.*?(?:\*/|\Z)|<!--|-->", "", sheet, flags=re.DOTALL)):
            if depth:
                depth += piece.endswith("{") - (piece == "}")
            elif piece.startswith("@"):
                depth = int(piece.endswith("{"))
            else:
                flat.append(piece)
        for rule in "".join(flat).split("}"):
            selectors, _, declared = rule.partition("{")
            if len(selectors) <= _LONGEST_SELECTOR and (meaning := of_style(declared)):
                for selector in selectors.lower().split(","):
                    if (name := selector.strip().removeprefix("*")) and _SELECTOR.fullmatch(name):
                        meanings[name] = meanings.get(name, {}) | meaning
    return meanings if any(mark for meaning in meanings.values() for mark in meaning.values()) else {}


def of_style(style: str) -> Meaning:
    """What declarations of a style say of an element's words."""
    said: Meaning = {}
    clipped = nothing = False
    for declaration in "".join(style[:_LONGEST_STYLE].split()).lower().split(";"):
        name, _, value = declaration.partition(":")
        name = name.removesuffix("-line")
        clipped = clipped or (name == "overflow" and value.startswith("hidden"))
        nothing = nothing or (name in _EXTENTS and re.match(_NONE, value) is not None)
        if name in _STYLES:
            marks = (mark for pattern, mark in _STYLES[name] if pattern.match(value))
            said[name] = next(marks, None)
    if clipped and nothing:
        said["overflow"] = HIDDEN
    return said
