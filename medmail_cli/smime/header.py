"""Which header fields count, and how they are shown: RFC 9788 for protected ones, RFC 8551 for wrapping."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from medmail_cli.model import Problem
from medmail_cli.pki.x509 import address
from medmail_cli.smime.fields import Field, Mailbox, to_text
from medmail_cli.smime.mime import Entity
from medmail_cli.smime.syntax import parse_date, parse_ids, without_comments
from medmail_cli.smime.verdict import Headers

if TYPE_CHECKING:
    from medmail_cli.smime.unwrapped import Unwrapped


def choose(
    got: "Unwrapped", payload: Entity, delegates: Iterable[str], problems: list[Problem]
) -> tuple[tuple[Field, ...], bool]:
    """The fields that count, and whether they are protected (RFC 9788 §4.2; RFC 8551 §3.1 for wrapping).

    One of the user's ``delegates`` may stand in Sender outside alone: servers add who handed a message in.
    """
    outer_from = mailboxes(got.outer, "from")
    if not _guarded(got):
        return got.outer, False
    if not payload.all("from"):
        return _completed(got.outer, payload), False
    inner_from = mailboxes(payload.fields, "from")
    agree = not outer_from or addresses(outer_from) == addresses(inner_from)
    wrapped = got.layers[-1] == "wrapped"
    marked = payload.parameters.get("hp", "").lower() in ("clear", "cipher") or _older(payload)
    # a layer saved without its mail header has no other sender than the one inside
    if not marked and not wrapped and outer_from:
        return got.outer, False
    if not agree:
        problems.append(Problem("header-mismatch", _pair(outer_from, inner_from)))
        if wrapped:
            # a wrapped message of another sender is a forwarded one, and says nothing of this one
            return got.outer, False
    outer_sender = mailboxes(got.outer, "sender")
    inner_sender = mailboxes(payload.fields, "sender") or inner_from
    strange = addresses(outer_sender) - {address.canonical(delegate) for delegate in delegates}
    if strange and addresses(outer_sender) != addresses(inner_sender):
        problems.append(Problem("header-mismatch", _pair(outer_sender, inner_sender)))
    return payload.fields, True


def in_clear(got: "Unwrapped", payload: Entity) -> tuple[Field, ...]:
    """The fields that an author who hid some let stand outside: HP-Outer (RFC 9788 §4.2).

    Where there are none, by another way of protection, what stands outside is in the clear already.
    """
    if payload.parameters.get("hp", "").lower() != "cipher":
        return got.outer
    copied = (field.raw.partition(b":")[2].lstrip() for field in all_of(payload.fields, "hp-outer"))
    return tuple(Field(to_text(raw.partition(b":")[0]).strip().lower(), raw) for raw in copied)


def _completed(outer: tuple[Field, ...], payload: Entity) -> tuple[Field, ...]:
    """The fields outside with those of the older form in their places: some write nothing but Subject inside.

    Who sends is told by those outside: with no From inside, nobody has said who is meant there.
    """
    if not _older(payload) or "hp" in payload.parameters:
        return outer
    inside = [
        f for f in payload.fields if f.name != "sender" and not f.name.startswith(("content-", "mime-"))
    ]
    names = {field.name for field in inside}
    return (*(field for field in outer if field.name not in names), *inside)


def _older(payload: Entity) -> bool:
    return payload.parameters.get("protected-headers", "").lower() == "v1"


def _guarded(got: "Unwrapped") -> bool:
    """Whether anything protects what is inside: compression and wrapping do not, nor do no signers."""
    layer = got.signature
    signed = layer is not None and (layer.signed is None or bool(layer.signed.signers))
    return signed or got.decrypted is not None


def all_of(fields: Sequence[Field], name: str) -> list[Field]:
    """Every field of that name (in lower case), in order."""
    return [field for field in fields if field.name == name]


def mailboxes(fields: Sequence[Field], name: str) -> tuple[Mailbox, ...]:
    """The mailboxes in every field of that name."""
    return tuple(box for field in fields if field.name == name for box in field.mailboxes)


def addresses(boxes: Sequence[Mailbox]) -> frozenset[str]:
    """The addresses of mailboxes as they are compared; "" for one without."""
    return frozenset(address.canonical(box.address) for box in boxes)


def _pair(outside: Sequence[Mailbox], inside: Sequence[Mailbox]) -> str:
    return f"{', '.join(b.address for b in outside)} ≠ {', '.join(b.address for b in inside)}"


def shown(fields: Sequence[Field], name: str) -> str | None:
    """The field as text; several of one name are all shown, since a reader must see that they are."""
    values = [field.text for field in all_of(fields, name)]
    return ", ".join(values) if values else None


def _people(fields: Sequence[Field], name: str) -> str | None:
    boxes = mailboxes(fields, name)
    return ", ".join(map(str, boxes)) or shown(fields, name)


def _ids(fields: Sequence[Field], name: str) -> tuple[str, ...]:
    matching = all_of(fields, name)
    return parse_ids(matching[0].value) if matching else ()


def headers(fields: Sequence[Field], *, protected: bool) -> Headers:
    """These fields as the verdict has them, decoded for showing."""
    dates = all_of(fields, "date")
    # one identifier, or what stands there: a letter's own name is not pieced together (RFC 5322 3.6.4)
    own = without_comments(matching[0].value) if (matching := all_of(fields, "message-id")) else ""
    ids = own.split()
    answered = _ids(fields, "in-reply-to")
    return Headers(
        from_=_people(fields, "from"),
        to=tuple(map(str, mailboxes(fields, "to"))),
        cc=tuple(map(str, mailboxes(fields, "cc"))),
        reply_to=_people(fields, "reply-to"),
        subject=shown(fields, "subject"),
        date=parse_date(dates[0].value) if dates else None,
        message_id=ids[0] if ids else None,
        in_reply_to=answered[0] if answered else None,
        references=_ids(fields, "references"),
        protected=protected,
    )
