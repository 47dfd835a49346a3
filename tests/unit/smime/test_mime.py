"""Entities as slices, whatever a stranger sends."""

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medmail_cli.errors import MedmailError
from medmail_cli.smime import display, mime
from medmail_cli.smime import html as html_text


def entity(text: str) -> mime.Entity:
    return mime.parse(text.replace("\n", "\r\n").encode())


NESTED = """\
Content-Type: multipart/mixed; boundary=a

preamble
--a
Content-Type: multipart/alternative; boundary="a b"

--a b
Content-Type: text/plain; charset=utf-8

plain
--a b
Content-Type: text/html

<p>html
--a b--
--a  \t
Content-Type: application/pdf; name=x.pdf
Content-Transfer-Encoding: base64

JVBERg==
--a--
epilogue
--a
not a part
"""


def test_parts_are_slices_of_what_came() -> None:
    root = entity(NESTED)
    alternative, pdf = root.children
    assert [bytes(part.raw).split(b"\r\n\r\n")[1] for part in alternative.children] == [b"plain", b"<p>html"]
    assert mime.decode_body(pdf) == b"%PDF"
    assert pdf.filename == "x.pdf"
    assert bytes(root.raw) == root.source


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_both_line_ends_give_the_same_parts(line_end: str) -> None:
    root = mime.parse(NESTED.replace("\n", line_end).encode())
    assert [part.content_type for part in root.walk()] == [
        "multipart/mixed", "multipart/alternative", "text/plain", "text/html", "application/pdf",
    ]  # fmt: skip


def test_a_boundary_is_a_whole_line() -> None:
    root = entity(
        "Content-Type: multipart/mixed; boundary=b\n\n--b\n\n--bb\nx --b\n--b x\n--b\n\n\n--b\n--b--\n"
    )
    assert [bytes(part.raw) for part in root.children] == [b"\r\n--bb\r\nx --b\r\n--b x", b"\r\n", b""]


def test_an_unclosed_part_runs_to_the_end() -> None:
    root = entity("Content-Type: multipart/mixed; boundary=b\n\n--b\n\nfirst\n--b\n\nlast")
    assert [mime.decode_body(part) for part in root.children] == [b"first", b"last"]


def test_several_fields_of_one_name_stay_visible() -> None:
    root = entity("From: a@x.test\nFrom: b@y.test\nSubject: s\n\n")
    assert [field.value for field in root.all("from")] == ["a@x.test", "b@y.test"]


@given(st.binary(max_size=3000))
def test_base64_survives_line_ends_and_junk(data: bytes) -> None:
    import base64

    encoded = base64.encodebytes(data)
    assert mime.decode_base64(encoded) == data
    assert mime.decode_base64(encoded.replace(b"\n", b" \r\n!").rstrip(b"=\r\n !")) == data


@given(st.binary(max_size=2000))
def test_any_bytes_parse_or_are_malformed(data: bytes) -> None:
    for raw in (data, b"Content-Type: multipart/mixed; boundary=b\n\n--b\n" + data):
        with contextlib.suppress(MedmailError):
            root = mime.parse(raw)
            for part in root.walk():
                mime.decode_body(part)
            display.shown(root)


@given(st.text(max_size=2000))
def test_html_is_reduced_whatever_it_is(html: str) -> None:
    html_text.to_text(html)


@given(st.lists(st.sampled_from([b"a", b"\r", b"\n", b"\r\n", b" "]), max_size=30).map(b"".join))
def test_canonical_text_has_crlf_only_and_is_stable(data: bytes) -> None:
    canonical = mime.canonical(data)
    assert b"\n" not in canonical.replace(b"\r\n", b"")
    assert b"\r" not in canonical.replace(b"\r\n", b"")
    assert mime.canonical(canonical) == canonical


@pytest.mark.parametrize(
    "hostile",
    [
        b"X: y\r\n" * 100_000,
        b"X: " + b"y\r\n " * 400_000,
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\n" * 1_000_000,
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--bx\n" * 2_000_000,
        b"".join(b"Content-Type: multipart/mixed; boundary=%d\r\n\r\n--%d\r\n" % (n, n) for n in range(5000)),
        b"X" * 5_000_000,
    ],
    ids=["fields", "folds", "parts", "almost parts", "depth", "no line"],
)
def test_bombs_are_refused_in_bounded_time(hostile: bytes) -> None:
    begun = time.process_time()
    with pytest.raises(MedmailError) as caught:
        mime.parse(hostile)
    assert caught.value.code == "malformed"
    assert time.process_time() - begun < 1


@pytest.mark.parametrize(
    "hostile",
    ["<!--" * 100_000, "<a " * 200_000, "<div>" * 200_000, "<script>" * 100_000, '<a href="' * 90_000],
)
def test_html_bombs_take_linear_time(hostile: str) -> None:
    begun = time.process_time()
    html_text.to_text(hostile)
    assert time.process_time() - begun < 2


def test_html_shows_words_and_where_links_lead_and_nothing_hidden() -> None:
    html = (
        "<head><title>t</title></head><style>p{}</style><p>Chère &eacute;lise,<br>voici</p>"
        '<script>evil()</script><!-- c --><a href="https://evil.test/?a=1&amp;b">notre site</a><img src="https://track.test/x.png">'
    )
    assert html_text.to_text(html) == "Chère élise,\nvoici\nnotre site <https://evil.test/?a=1&b>\n"


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<html><head><title>t</title><body>Hello</html>", "Hello\n"),  # </head> may be left out
        ("<head><meta charset=utf-8><style>p{}</style><p>Hello", "Hello\n"),
        ("<noscript>Hello</noscript>", "Hello\n"),  # no script ever runs
        (
            "<table><tr><td>Na</td><td>140</td><td>1</td></tr><tr><th>K<th>4.1</table>",
            "Na | 140 | 1\nK | 4.1\n",
        ),
        ("<p>a\n  b</p><pre>\nNa   140\n K\t4.1  \n\n</pre><p>c\n d", "a b\n\nNa   140\n K 4.1\n\nc d\n"),
        ("<pre>a  b</pre></pre>c  d", "a  b\n\nc d\n"),
    ],
)
def test_html_loses_no_words_and_runs_none_together(html: str, text: str) -> None:
    assert html_text.to_text(html) == text


def test_text_is_preferred_to_html_and_files_are_attachments() -> None:
    shown = display.shown(entity(NESTED))
    assert shown.text == "plain"
    assert [part.content_type for part in shown.attachments] == ["application/pdf"]


def test_an_empty_alternative_is_not_the_one_to_read() -> None:
    root = entity(NESTED.replace("plain\n--", " \n--"))
    assert display.shown(root).text == "html\n"
    assert display.shown(entity(NESTED.replace("plain\n--", " \n--").replace("<p>html", " "))).text == " "


def test_a_transfer_encoding_may_bear_a_comment() -> None:
    assert mime.decode_body(entity("Content-Transfer-Encoding: BASE64 (RFC 2045)\n\nSGVsbG8=\n")) == b"Hello"


def test_flowed_text_is_joined() -> None:
    root = entity("Content-Type: text/plain; format=flowed\n\none \ntwo\n> quoted \n> more\n-- \nsig\n")
    assert mime.decode_text(root) == "one two\n> quoted more\n-- \nsig\n"


@pytest.mark.parametrize(
    "charset", ["utf-8", "iso-8859-1", "windows-1252", "us-ascii", "unknown-8bit", "utf_8"]
)
def test_accents_are_read_under_common_labels(charset: str) -> None:
    written = "é".encode("utf-8" if "utf" in charset or "unk" in charset else "cp1252")
    root = mime.parse(b"Content-Type: text/plain; charset=" + charset.encode() + b"\r\n\r\n" + written)
    assert mime.decode_text(root) == "é"
