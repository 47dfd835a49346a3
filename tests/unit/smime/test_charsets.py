"""Character sets under the names that letters give them, in bodies, subjects, file names and searches."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medmail_cli.smime import charsets, mime
from medmail_cli.smime.fields import Field, decode_words, parse_parameters
from medmail_cli.store.mail.search import _folded

FRENCH = "l’hôpital, cœur, 12 €"
SENT = [
    ("iso-8859-1", "cp1252", FRENCH), ("ISO_8859-1", "cp1252", FRENCH), ("latin1", "cp1252", FRENCH),
    ("us-ascii", "cp1252", FRENCH), ("us-ascii", "utf-8", FRENCH), ("x-unknown", "cp1252", FRENCH),
    ("unknown-8bit", "utf-8", FRENCH), ("windows-1252", "cp1252", FRENCH), ("ansi", "cp1252", FRENCH),
    ("iso-8859-15", "iso8859-15", "cœur €"), ("latin-9", "iso8859-15", "cœur €"),
    ("iso-8859-9", "cp1254", "ığş €"), ("cp-850", "cp850", "hôpital"), ("ibm850", "cp850", "hôpital"),
    ("x-mac-roman", "mac-roman", "hôpital"), ("macintosh", "mac-roman", "hôpital"),
    ("x-mac-cyrillic", "mac-cyrillic", "больница"), ("koi8-r", "koi8-r", "больница"),
    ("windows-1251", "cp1251", "больница"), ("win-1251", "cp1251", "больница"),
    ("gb2312", "gb18030", "镕 熙 囧 医院"), ("gbk", "gb18030", "囧€"), ("big5", "big5hkscs", "香港 㗎"),
    ("shift_jis", "cp932", "髙橋 ① ㈱"), ("x-sjis", "cp932", "髙橋"), ("euc-kr", "cp949", "똠방각하 병원"),
    ("ks_c_5601-1987", "cp949", "똠방각하"), ("iso-8859-8-i", "iso8859-8", "שלום"),
    ("tis-620", "cp874", "ไทย€"),
    ("windows-874", "cp874", "ไทย"), ("utf8", "utf-8", FRENCH), ("utf-8-mac", "utf-8", FRENCH),
    ("utf-16le", "utf-16-le", FRENCH), ("utf-16", "utf-16-be", FRENCH), ("utf-16", "utf-16-le", FRENCH),
    ("utf-16", "utf-16", FRENCH), ("utf-32", "utf-32-be", FRENCH), ("iso-2022-jp", "iso2022_jp", "病院"),
    ("utf-7", "utf-7", "hôpital"), (' "ISO-8859-1"; ', "cp1252", FRENCH),
]  # fmt: skip


@pytest.mark.parametrize(("label", "codec", "text"), SENT)
def test_what_is_sent_under_a_name_is_read(label: str, codec: str, text: str) -> None:
    assert charsets.decode(text.encode(codec), label) == text


def test_circled_numbers_are_read_in_both_japanese_forms() -> None:
    assert charsets.decode(b"\xad\xa1 \xad\xea", "euc-jp") == "① ㈱"
    assert charsets.decode(b"\x1b$B\x2d\x21\x2d\x6a\x1b(B 1", "iso-2022-jp") == "①㈱ 1"


@pytest.mark.parametrize("label", ["", "utf-8", "iso-8859-1", "windows-1251", "utf-16"])
@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_mark_counts_more_than_the_name(label: str, codec: str) -> None:
    assert charsets.decode(FRENCH.encode(codec), label) == FRENCH


def test_octets_without_a_meaning_stay_what_they_are() -> None:
    assert charsets.decode(b"a\x81b\x92", "iso-8859-1") == "a\x81b’"
    assert charsets.decode(b"l\x92\xe9t\xe9 12 \xa4\x81", "iso-8859-15") == "l’été 12 €\x81"


@pytest.mark.parametrize(
    "label", ["rot13", "hex", "zlib", "unicode-escape", "idna", "undefined", "x" * 5000, "a\0b"]
)
def test_what_is_no_character_set_is_read_as_if_it_had_none(label: str) -> None:
    assert charsets.decode(b"\\x41 caf\xc3\xa9", label) == "\\x41 café"


@given(st.binary(max_size=80), st.sampled_from([label for label, *_ in SENT]) | st.text(max_size=12))
def test_every_octet_has_a_reading(data: bytes, label: str) -> None:
    charsets.decode(data, label).encode("utf-8")


@pytest.mark.parametrize("codec", ["utf-8", "cp1252", "iso8859-15", "koi8-r", "gb18030"])
@given(text=st.text(st.characters(exclude_characters=list(map(chr, range(0x80, 0xA0)))), max_size=40))
def test_what_a_set_holds_comes_back(codec: str, text: str) -> None:
    data = text.encode(codec, "ignore")
    if not data.startswith(tuple(mark for mark, _ in charsets._MARKS)):
        assert charsets.decode(data, codec) == data.decode(codec)


@pytest.mark.parametrize(
    "declaration",
    [
        '<meta http-equiv="Content-Type" content="text/html; charset=windows-1251">',
        "<META CHARSET='windows-1251'>", "<meta charset=windows-1251 />",
        '<?xml version="1.0" encoding="windows-1251"?>',
    ],
)  # fmt: skip
def test_an_html_text_may_name_its_own(declaration: str) -> None:
    body = f"{declaration}<p>больница".encode("cp1251")
    assert "больница" in mime.decode_text(mime.parse(b"Content-Type: text/html\r\n\r\n" + body))
    named = b"Content-Type: text/html; charset=windows-1251\r\n\r\n" + body.replace(b"1251", b"1253")
    assert "больница" in mime.decode_text(mime.parse(named))  # the field counts more


def test_no_html_text_is_utf_16_by_its_own_word() -> None:
    body = '<meta charset="utf-16"><p>é'.encode()
    assert "é" in mime.decode_text(mime.parse(b"Content-Type: text/html\r\n\r\n" + body))


def test_subjects_and_file_names_are_read_alike() -> None:
    assert decode_words("=?iso-8859-1?Q?l=92h=F4pital=2C_c=9Cur_=80?=") == "l’hôpital, cœur €"
    assert decode_words("=?x-unknown*fr?Q?c=9Cur?=") == "cœur"
    assert Field("subject", b"Subject: c\x9cur").value == "cœur"
    assert parse_parameters("a/b; name*=iso-8859-1'fr'c%9Cur.pdf")[1]["name"] == "cœur.pdf"
    assert parse_parameters('a/b; name="=?windows-1252?Q?c=9Cur?=.pdf"')[1]["name"] == "cœur.pdf"


def test_a_search_finds_words_however_they_are_typed() -> None:
    for written, typed in (("cœur", "coeur"), ("l’hôpital", "l'hopital"), ("Straße", "strasse"), ("Æ", "ae")):
        assert _folded(typed) in _folded(written)
