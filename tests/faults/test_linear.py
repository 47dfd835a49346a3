"""What strangers send costs in proportion to its size: processor time, at two sizes."""

from collections.abc import Callable
from functools import partial

import pytest

from medmail_cli.smime import fields, mime, syntax, transfer
from medmail_cli.smime.fields import Mailbox
from medmail_cli.smime.outer import outer
from medmail_cli.workflows import reply
from medmail_cli.workflows.drafts import Draft
from tests.support.letters import opened
from tests.support.measured import processor_time

SMALL, LARGE = 16_000, 64_000
AT_ONCE = 0.05
"""Seconds of processor time that say nothing about growth; what is quadratic takes more by far."""
RATIO = 8.0
"""Of four times the input: about 4 where cost is linear, 16 where it is quadratic."""


def letter(before: str, after: str = "") -> Callable[[str], object]:
    """Open a stranger's letter with the text in it."""
    head = b"From: x@evil.test\r\nTo: bob@medecin.test\r\nSubject: s\r\n"
    return lambda text: opened(head + before.encode() + text.encode() + after.encode())


def people(text: str) -> list[str]:
    """An address for each twentieth letter."""
    return [f"p{number}@medecin.test" for number in range(len(text) // 20)]


def to_and_told(addresses: list[str]) -> tuple[Draft, Draft]:
    """An answer to these people, and what the letter told of them."""
    to = tuple(Mailbox(one) for one in addresses)
    return Draft(to=to, subject="x"), Draft(to=to[::-1], subject="x")


@pytest.mark.parametrize(
    ("call", "begin", "unit"),
    [
        (syntax.parse_date, "Mon", " "),
        (syntax.parse_date, "Mon,", "\t"),
        (fields.parse_mailboxes, "", "()"),
        (fields.parse_mailboxes, "a@b ", "(c)"),
        (fields.parse_mailboxes, "", "a@b "),
        (lambda text: mime.canonical(text.encode()), "", "\r"),
        (lambda text: mime.canonical(text.encode()), "", "\r\r\n"),
        (lambda text: outer(text.encode()), "Subject: a", "\r"),
        (lambda text: outer(text.encode()), "Date: Mon", "\r\n "),
        (lambda text: transfer.decode(text.encode(), "quoted-printable"), "", "\r"),
        (lambda text: transfer.decode(text.encode(), "quoted-printable"), "", " "),
        (lambda text: transfer.decode(text.encode(), "base64"), "", "QQ=="),
        (lambda text: transfer.decode(text.encode(), "base64"), "", "= "),
        (lambda text: transfer.decode(text.encode(), "x-uuencode"), "", "begin 644 a\n"),
        (syntax.parse_ids, "", "<"),
        (syntax.parse_ids, "", "<a "),
        (syntax.without_comments, "", "("),
        (syntax.without_comments, "", '"\\'),
        (
            lambda text: mime.decode_text(mime.parse(b"Content-Type: text/html\n\n" + text.encode())),
            "",
            "<meta ",
        ),
        (lambda text: reply._distinct([Mailbox(one) for one in people(text)], []), "", "a"),
        (lambda text: reply._outside(*to_and_told(people(text))), "", "a"),
        (reply.subject, "Re", " "),
        (reply.subject, "", " "),
        (letter("Date: Mon", "x\r\n\r\nhello\r\n"), "", "\r\n  "),
        (letter("Content-Type: text/plain\r\n\r\n", "x\r\r\n"), "", "\r"),
        (letter("Cc: ", "\r\n\r\nhello\r\n"), "", "()"),
    ],
)
def test_cost_grows_as_the_input_does(call: Callable[[str], object], begin: str, unit: str) -> None:
    def of(size: int) -> str:
        return begin + unit * (size // len(unit)) + "x"

    small, large = (processor_time(partial(call, of(size))) for size in (SMALL, LARGE))
    assert large < AT_ONCE or large < RATIO * small
