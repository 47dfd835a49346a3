"""What a letter says, as text to show: the part to read, HTML reduced to words, the list of attachments.

Which parts are shown follows RFC 2046 §5.1.4 and RFC 9788 §4.5.3 (legacy display).
"""

import re
from dataclasses import dataclass, field, replace

from medmail_cli.smime import mime
from medmail_cli.smime.layers import signed_content
from medmail_cli.smime.mime import Entity

_COPY = re.compile(r"(?:[!-9;-~]+:.*\n(?:[ \t].*\n)*)+\n")
"""Header fields and a blank line."""
_FOLDED = re.compile(r"\n[ \t]+")
_SHOWN_ABOVE = {"subject", "from", "to", "cc", "reply-to", "date"}


@dataclass(frozen=True)
class Shown:
    """The body as text (None where there is none), and the parts that are attachments."""

    text: str | None
    attachments: tuple[Entity, ...]


def shown(
    root: Entity, *, protected: bool = False, encrypted: bool = False, partly_signed: bool = False
) -> Shown:
    """Choose what of a decrypted, verified entity is read and what is attached.

    ``protected`` where its own header fields are shown: a copy of them in the text is then left out, by RFC
    9788 only in what came ``encrypted``.
    ``partly_signed`` where a list, say, put a footer beside the signed letter: that is read all the same.
    """
    hide_copy = protected and encrypted and root.parameters.get("hp", "").lower() in ("clear", "cipher")
    chosen = _Chosen(hide_copy, partly_signed)
    if protected and root.children and _is_older_copy(root, root.children[0]):
        root = replace(root, children=root.children[1:])
    _visit(root, chosen, top=True)
    return Shown("\n".join(chosen.texts) if chosen.texts else None, tuple(chosen.attachments))


def _is_older_copy(root: Entity, part: Entity) -> bool:
    """Whether the first part is the copy of header fields that older programs put before the rest.

    By ``protected-headers="v1"`` (draft-autocrypt-lamps-protected-headers §5.2), which RFC 9788 came after,
    it is a part of its own. It is left out only if each of its lines is a field that is shown above.
    """
    marked = all(
        part_or_root.parameters.get("protected-headers", "").lower() == "v1" for part_or_root in (root, part)
    )
    kind = part.content_type in ("text/plain", "text/rfc822-headers")
    if not (marked and kind and root.content_type == "multipart/mixed"):
        return False
    unfolded = _FOLDED.sub(" ", mime.decode_text(part))
    fields = (line.partition(":") for line in unfolded.splitlines() if line.strip())
    return all(
        name.lower() in _SHOWN_ABOVE and root.text(name.lower()) == value.strip() for name, _, value in fields
    )


@dataclass
class _Chosen:
    """What is read and what is attached, so far."""

    hide_copy: bool
    open_signed: bool = False
    texts: list[str] = field(default_factory=list)
    attachments: list[Entity] = field(default_factory=list)


def _visit(entity: Entity, chosen: _Chosen, *, top: bool, first: bool = True) -> None:
    """``top``: it may be read; ``first``: also if it has a file name (RFC 2183 2.3: that is for saving)."""
    if chosen.open_signed and (content := signed_content(entity)):
        # one level, or a purpose-made letter would take for ever
        inner = _Chosen(chosen.hide_copy)
        _visit(content, inner, top=top)
        chosen.texts += inner.texts
        chosen.attachments += inner.attachments
    elif entity.content_type.startswith("multipart/") and entity.children:
        if entity.content_type == "multipart/alternative":
            _visit_alternative(entity, chosen)
            return
        root = _root_of(entity) if entity.content_type == "multipart/related" else None
        for number, child in enumerate(entity.children):
            _visit(
                child,
                chosen,
                top=root is None or child is root,
                first=first and (number == 0 or child is root),
            )
    elif _is_text(entity) and top and (first or not entity.filename):
        chosen.texts.append(_read(entity, hide_copy=chosen.hide_copy))
    elif entity.content_type.startswith("multipart/") and not entity.source[entity.body : entity.end].strip():
        return
    else:
        chosen.attachments.append(entity)


def _root_of(related: Entity) -> Entity:
    """The one part of a multipart/related that is read; the rest hangs on it (RFC 2387 §3.2)."""
    start = related.parameters.get("start")
    named = (child for child in related.children if start and child.first("content-id") == start)
    return next(named, related.children[0])


def _visit_alternative(entity: Entity, chosen: _Chosen) -> None:
    """One alternative is read: plain text before HTML before anything that holds text."""
    readings: list[tuple[int, _Chosen]] = []
    for child in entity.children:
        inner = _Chosen(chosen.hide_copy, chosen.open_signed)
        _visit(child, inner, top=True)
        rank = {"text/plain": 0, "text/html": 1}.get(child.content_type, 2)
        # an empty text stands beside the one to be read
        rank = rank if any(text.strip() for text in inner.texts) else 3
        readings.append((rank, inner))
    if not readings:
        return
    chosen.texts += min(readings, key=lambda reading: reading[0])[1].texts
    # a calendar or a picture offered only as an alternative would otherwise vanish
    for _, inner in readings:
        chosen.attachments += inner.attachments


def _is_text(entity: Entity) -> bool:
    return entity.content_type in ("text/plain", "text/html") and entity.disposition[0] != "attachment"


def _read(entity: Entity, *, hide_copy: bool) -> str:
    text = mime.decode_text(entity)
    hide_copy = hide_copy and entity.parameters.get("hp-legacy-display") == "1"
    if entity.content_type == "text/html":
        from medmail_cli.smime import html  # few letters are read by it alone

        return html.to_text(text, hide_copy=hide_copy)
    if hide_copy and (copy := _COPY.match(text)):
        return text[copy.end() :]
    return text
