"""What strangers send costs in proportion to its size: no function that reads their bytes is quadratic.

Processor time at two sizes is compared, so that a busy machine does no harm; what is over in no time at the
large size, where a quadratic one takes far longer, is not measured further.
"""

import contextlib
from collections.abc import Callable
from functools import partial

import pytest

from medmail_cli.errors import MedmailError
from medmail_cli.smime import fields, mime, syntax, transfer
from medmail_cli.smime.fields import Mailbox
from medmail_cli.smime.outer import outer
from medmail_cli.workflows.mail import reply
from medmail_cli.workflows.mail.drafts import Draft
from tests.support.letters import opened
from tests.support.measured import processor_time
from tests.support.readers import CALLS, OURS, measured, readers

SMALL, LARGE = 8_000, 32_000
AT_ONCE = 0.1
"""Seconds of processor time that say nothing about growth; what is quadratic takes more by far."""
RATIO = 10.0
"""Of four times the input: about 4 where cost is linear, 16 where it is quadratic."""

BEGINS = (
    "Mon", "Re", "1 Jan 2026 ", "text/plain; a", 'text/plain; a="', '"', "(", "<", "a@b ", "<a href", "<p>",
    "<pre>", "=?utf-8?q?", "-----BEGIN CERTIFICATE-----\n", "* OK [", "Content-Type: a", "A: b\r\n\r\nb",
)  # fmt: skip
UNITS = (
    *"\r\n\t ()<>&\"\\=%;',@-:[]*\0+/.a1é\u0301", "\r\n ", "\r\r\n", "()", "(a)", "<a>", "<!--", "</",
    "</p>", "<td>", "<b>x", "<table><tr><td>", "<ul><li>", "&#9;", "<del>", "<sup>1", "<div hidden>",
    "href=", '""', '\\"', "=?a?q?", "=?utf-8?q?=41?= ", "=?utf-8?b?QUE=?=", "=\r\n", "=41", "%41", "; a=b",
    ";a*0=b", ';"', "''", "a@b ", "a@b,", "<a@b>", "a.", "Re: ", "Re ", "--b\r\n", "A: b\r\n",
    "-----BEGIN A-----\n", "-----BEGIN CERTIFICATE-----\n", "{1}", "\u1e9b\u0323", "e\u0301", "xn--a.",
    "QQ==", "> ", "begin 644 a\n", "From a\n", "\x1b[", "0 ", "a:b;", "<a@b>,", "From: a\r\n",
)  # fmt: skip
AFTER = ("\r", " ", "\t", "a", ";", "\r\n ", "(", "1")
"""What is repeated after each of ``BEGINS``."""


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


def attempt(call: Callable[[str], object], text: str) -> None:
    """Let a reader read; to refuse is an answer."""
    with contextlib.suppress(MedmailError, ValueError):
        call(text)


def grows_too_fast(call: Callable[[str], object], begin: str, unit: str) -> str:
    """What is wrong about the growth of cost, or nothing."""

    def of(size: int) -> str:
        return begin + unit * (size // len(unit)) + "x"

    large = processor_time(partial(attempt, call, of(LARGE)), AT_ONCE)
    if large < AT_ONCE:
        return ""
    small = processor_time(partial(attempt, call, of(SMALL)))
    if large < RATIO * small:
        return ""
    return f"{begin!r} and {unit!r} again and again: {small:.3f} s, of four times as many {large:.3f} s"


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
def test_what_was_quadratic_once_is_linear(call: Callable[[str], object], begin: str, unit: str) -> None:
    assert grows_too_fast(call, begin, unit) == ""


def test_every_reader_is_measured() -> None:
    """Who adds a function that reads strangers' octets says how it is tried, or it is found to be ours."""
    known = {name for name, _, _ in readers()}
    assert not [name for name, calls in measured().items() if not calls]
    assert not set(CALLS) - known, "no longer there"
    assert not {f"{module}.{one}" for module, ones in OURS.items() for one in ones} - known, "no longer there"


@pytest.mark.parametrize("name", sorted(name for name, calls in measured().items() if calls))
def test_cost_grows_as_the_input_does(name: str) -> None:
    """No input of repeated pieces, whatever stands before them, costs more than in proportion."""
    wrong = []
    for call in measured()[name]:
        tries = [("", unit) for unit in UNITS] + [(begin, unit) for begin in BEGINS for unit in AFTER]
        for begin, unit in [("", "a")] if hasattr(call, "once") else tries:
            if found := grows_too_fast(call, begin, unit):
                wrong.append(found)
    assert not wrong, "\n".join(wrong)
