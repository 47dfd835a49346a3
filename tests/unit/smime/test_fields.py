"""Header fields as strangers write them."""

import datetime as dt
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from medmail_cli.smime import charsets, fields, syntax
from medmail_cli.smime.fields import Field, Mailbox, parse_mailboxes, parse_parameters


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("a@x.test", [("a@x.test", "")]),
        ("Ann <a@x.test>, b@y.test", [("a@x.test", "Ann"), ("b@y.test", "")]),
        ('"Martin, Élise" <a@x.test>', [("a@x.test", "Martin, Élise")]),
        ("=?utf-8?q?=C3=89lise_Martin?= <a@x.test>", [("a@x.test", "Élise Martin")]),
        ("a@x.test (Ann)", [("a@x.test", "Ann")]),
        (
            "Team: Ann <a@x.test>, b@y.test;, c@z.test",
            [("a@x.test", "Ann"), ("b@y.test", ""), ("c@z.test", "")],
        ),
        ("undisclosed-recipients:;", []),
        ('"a b"@x.test', [('"a b"@x.test', "")]),
        ("<@relay.test:a@x.test>", [("a@x.test", "")]),
        # two addresses in one place are two, so that nobody hides behind the other
        ("Ann <a@x.test> <b@y.test>", [("a@x.test", "Ann"), ("b@y.test", "Ann")]),
        ("a@x.test b@y.test", [("a@x.test", ""), ("b@y.test", "")]),
        # an address inside an encoded word or a quoted string stays part of a name
        (
            "=?utf-8?q?boss=40x.test_=3Cboss=40x.test=3E=2C?= <m@evil.test>",
            [("m@evil.test", "boss@x.test <boss@x.test>,")],
        ),
        ('"boss@x.test" <m@evil.test>', [("m@evil.test", "boss@x.test")]),
        ("Ann <a@x.test> Bob <b@y.test> M.D.", [("a@x.test", "Ann"), ("b@y.test", "Bob M.D.")]),
        # what is no address yields none, visibly
        ("Ann", [("", "Ann")]),
        ("Ann <>", [("", "Ann")]),
        ("Ann <a@x.test\0@evil.test>", [("", "Ann")]),
        ("=?utf-8?q?a=40x.test?=", [("", "a@x.test")]),
    ],
)
def test_address_lists(written: str, read: list[tuple[str, str]]) -> None:
    assert list(parse_mailboxes(written)) == [Mailbox(*box) for box in read]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("=?utf-8?B?w4k=?= =?utf-8?B?bGlzZQ==?=", "Élise"),
        ("=?iso-8859-1?Q?=C9lise_Martin?=, =?iso-8859-15*fr?q?=A4?=", "Élise Martin, €"),
        ("=?no-such-charset?q?=C3=A9?=", "é"),
        ("=?hex?q?41?=", "41"),
        ("=?utf-7?q?a+2AA-b+2D3eAA-?=", "a\ufffdb\U0001f600"),
        ("plain =?broken", "plain =?broken"),
    ],
)
def test_encoded_words(written: str, read: str) -> None:
    assert fields.decode_words(written) == read


def test_a_character_split_over_two_encoded_words_is_whole() -> None:
    assert fields.decode_words("=?utf-8?q?=C3?=\r\n =?utf-8?q?=A9?=") == "é"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("attachment; filename=a.pdf", "a.pdf"),
        ('attachment; filename="a \\"b\\".pdf"', 'a "b".pdf'),
        ("attachment; filename*=utf-8'fr'r%C3%A9sultat.pdf", "résultat.pdf"),
        ("attachment; filename*0*=utf-8''r%C3%A9; filename*1=sul; filename*2*=tat%2Epdf", "résultat.pdf"),
        ("attachment; filename*1*=b; filename*0*=utf-8''a", "ab"),
        ('attachment; filename="=?utf-8?q?r=C3=A9sultat.pdf?="', "résultat.pdf"),
        ("attachment; filename=mon fichier.pdf", "mon fichier.pdf"),
        ('attachment; filename="never closed', "never closed"),
    ],
)
def test_parameters(written: str, expected: str) -> None:
    assert parse_parameters(written)[1]["filename"] == expected


@given(st.binary(max_size=60), st.binary(max_size=60))
@example(b";\0", b"=")
def test_a_parameter_that_is_left_out_leaves_the_rest(before: bytes, after: bytes) -> None:
    raw = b"Content-Type: text/plain" + before + b'; hp="a;b"' + after
    left = fields.without_parameters(raw, {"hp"})
    assert "hp" not in parse_parameters(left.decode("latin-1"))[1]
    assert fields.without_parameters(left, ()) == left
    names = set(parse_parameters(raw.decode("latin-1"))[1])
    assert set(parse_parameters(left.decode("latin-1"))[1]) == names - {"hp"}


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("Sun, 22 Nov 2026 09:30:00 +0100", dt.datetime(2026, 11, 22, 8, 30, tzinfo=dt.UTC)),
        ("22 Nov 26 09:30 EST (a comment)", dt.datetime(2026, 11, 22, 14, 30, tzinfo=dt.UTC)),
        ("Sun, 31 Feb 2026 09:30:00 +0100", None),
        ("yesterday", None),
    ],
)
def test_dates(written: str, expected: dt.datetime | None) -> None:
    assert syntax.parse_date(written) == expected


def test_raw_utf8_and_latin1_headers_are_read() -> None:
    assert Field("subject", "Subject: Élise\r\n  Martin".encode()).value == "Élise  Martin"
    assert Field("subject", "Subject: Élise".encode("latin-1")).value == "Élise"


@given(st.text(max_size=300), st.binary(max_size=300))
def test_nothing_makes_a_reader_raise(text: str, data: bytes) -> None:
    parse_mailboxes(text)
    parse_parameters(text)
    fields.decode_words(text)
    syntax.parse_date(text)
    fields.addresses_in(text)
    value = Field("x", b"X: " + data).text
    parse_mailboxes(value)


@given(st.binary(max_size=60), st.text(alphabet="abcdefghijklmnopqrstuvwxyz0123456789-_", max_size=20))
def test_any_charset_name_is_survived(data: bytes, name: str) -> None:
    assert charsets.decode(data, name).encode("utf-8") is not None


@pytest.mark.parametrize(
    "hostile",
    [
        '"\\' * 200_000,
        "<" * 400_000,
        "(" * 400_000,
        "a@" * 200_000,
        "=?a?q?" * 60_000,
        ";a" * 200_000,
        ';a="' * 100_000,
        "x*0*=" * 80_000,
        " " * 400_000,
        ',"a' * 150_000,
    ],
)
def test_long_fields_take_linear_time(hostile: str) -> None:
    begun = time.process_time()
    parse_mailboxes(hostile)
    parse_parameters(hostile)
    fields.decode_words(hostile)
    fields.addresses_in(hostile)
    Field("x", b"X:" + hostile.encode()).text  # noqa: B018 - for its time
    assert time.process_time() - begun < 5
