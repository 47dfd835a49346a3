"""What a letter says, as text to show: the part to read, HTML reduced to words, the list of attachments.

Nothing is fetched and nothing of HTML is interpreted but its words (RFC 9787 §7: no remote content next
to decrypted text). Which parts are shown follows RFC 2046 §5.1.4 and RFC 9788 §4.5.3 (legacy display).
"""

import re
from dataclasses import dataclass

from medmail_cli.smime import mime
from medmail_cli.smime.mime import Entity

_HIDDEN = {"script", "style", "head", "title", "template", "noscript", "svg", "math"}
_BLOCKS = {
    "p",
    "div",
    "br",
    "li",
    "tr",
    "table",
    "ul",
    "ol",
    "blockquote",
    "pre",
    "hr",
    "h1",
    "h2",
    "h3",
    "h4",
}
_HTML = re.compile(
    r"<!--.*?(?:-->|\Z)|<(/?)([A-Za-z][^\s/>]*)[^>]*(?:>|\Z)|<[!?/][^>]*(?:>|\Z)|[^<]+|<", re.DOTALL
)
_HREF = re.compile(r"""\bhref\s*=\s*["']?(https?:[^\s"'>]*)""", re.IGNORECASE)


@dataclass(frozen=True)
class Shown:
    """The body as text (None where there is none), and the parts that are attachments."""

    text: str | None
    attachments: tuple[Entity, ...]


def shown(root: Entity) -> Shown:
    """Choose what of a decrypted, verified entity is read and what is attached."""
    texts: list[str] = []
    attachments: list[Entity] = []
    _visit(root, texts, attachments, top=True)
    return Shown("\n".join(texts) if texts else None, tuple(attachments))


def _visit(entity: Entity, texts: list[str], attachments: list[Entity], *, top: bool) -> None:
    if entity.content_type.startswith("multipart/") and entity.children:
        if entity.content_type == "multipart/alternative":
            _visit_alternative(entity, texts, attachments)
            return
        for number, child in enumerate(entity.children):
            # in multipart/related only the root is read, the rest hangs on it (RFC 2387)
            _visit(child, texts, attachments, top=number == 0 or entity.content_type != "multipart/related")
    elif _is_text(entity) and top:
        texts.append(_read(entity))
    elif entity.content_type.startswith("multipart/") and not entity.source[entity.body : entity.end].strip():
        return
    else:
        attachments.append(entity)


def _visit_alternative(entity: Entity, texts: list[str], attachments: list[Entity]) -> None:
    """One alternative is read: plain text before HTML before anything that holds text."""
    readings: list[tuple[int, list[str], list[Entity]]] = []
    for child in entity.children:
        inner_texts: list[str] = []
        inner_attachments: list[Entity] = []
        _visit(child, inner_texts, inner_attachments, top=True)
        rank = {"text/plain": 0, "text/html": 1}.get(child.content_type, 2) if inner_texts else 3
        readings.append((rank, inner_texts, inner_attachments))
    if not readings:
        return
    best = min(range(len(readings)), key=lambda i: readings[i][0])
    texts.extend(readings[best][1])
    # a calendar or a picture offered only as an alternative would otherwise vanish
    for _, _, parts in readings:
        attachments.extend(parts)


def _is_text(entity: Entity) -> bool:
    return (
        entity.content_type in ("text/plain", "text/html")
        and entity.disposition[0] != "attachment"
        and not entity.filename
    )


def _read(entity: Entity) -> str:
    text = mime.decode_text(entity)
    if entity.content_type == "text/html":
        return html_to_text(text)
    if entity.parameters.get("hp-legacy-display") == "1":
        # a copy of hidden headers, for readers who know no header protection; it ends at a blank line
        return text.partition("\n\n")[2]
    return text


def html_to_text(html: str) -> str:
    """The words of an HTML text, blocks on lines of their own; links show where they lead.

    A tag is whatever stands between ``<`` and ``>``: cruder than a browser, but linear on any input.
    """
    from html import unescape

    out: list[str] = []
    links: list[str] = []
    hidden: list[str] = []
    for token in _HTML.finditer(html):
        piece = token[0]
        if not token[2]:
            if not hidden and not piece.startswith(("<!", "<?")):
                out.append(re.sub(r"\s+", " ", unescape(piece)))
            continue
        closing, tag = bool(token[1]), token[2].lower()
        if hidden:
            if tag == hidden[0] and closing:
                hidden.pop()
            elif tag == hidden[0]:
                hidden.append(tag)
        elif not closing and (tag in _HIDDEN or "header-protection-legacy-display" in piece):
            hidden.append(tag)
        elif tag in _BLOCKS:
            out.append("\n")
        elif tag == "a" and not closing:
            found = _HREF.search(piece)
            links.append(unescape(found[1]) if found else "")
        elif tag == "a" and links and (target := links.pop()):
            out.append(f" <{target}>")
    lines = [" ".join(line.split()) for line in "".join(out).split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"
