"""Transfer encodings, dates and identifiers as people's programs write them."""

import base64
import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medmail_cli.smime import transfer
from medmail_cli.smime.syntax import parse_date, parse_ids, without_comments


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (b"TmEgMTQwCg==\r\nSyA1LDEK\r\nQ3IgMzAK\r\n", b"Na 140\nK 5,1\nCr 30\n"),
        (b"TW1lIEQ=dXBvbnQ=", b"Mme Dupont"),
        (b"TmEgMTQwCg==\n\n-- \nThis mail was scanned.\n", b"Na 140\n"),
        (b"TmEgMTQwCg==\nUnsubscribe\n", b"Na 140\n"),
        (b"SyA1LDEK\n-- \nA list, its footer\n", b"K 5,1\n"),
        (b"Kalium: 5,1 mmol/l\nNatrium\n", b"Kalium: 5,1 mmol/l\nNatrium\n"),  # never encoded at all
        (b"Scanned, and found clean.\n\nSyA1LDEK" + b"SyA1LDEK" * 5, b"K 5,1\n" * 6),
        (b"Scanned, and found clean.\n\nTWE=\n", b"Ma"),
    ],
)
def test_base64_is_read_to_where_it_ends(written: bytes, expected: bytes) -> None:
    assert transfer.decode_base64(written) == expected


@given(
    st.binary(max_size=3000), st.integers(1, 90), st.sampled_from([b"\n", b"\r\n", b""]), st.integers(4, 64)
)
def test_base64_is_the_same_however_it_is_broken_up(
    content: bytes, width: int, line_end: bytes, chunk: int
) -> None:
    encoded = base64.b64encode(content)
    lines = line_end.join(encoded[at : at + width] for at in range(0, len(encoded), width)) + line_end
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transfer, "_CHUNK", chunk)
        assert transfer.decode_base64(lines) == content
        # another piece after the padding, wherever that falls
        more = line_end.join((lines, base64.b64encode(b"more")))
        assert transfer.decode_base64(more) == content + b"more"


def test_blanks_after_quoted_lines_are_no_part_of_them() -> None:
    assert transfer.decode_quoted_printable(b"5 mg= \r\n/kg  \r\nfin\r\n") == b"5 mg/kg\r\nfin\r\n"
    assert transfer.decode_quoted_printable(b"a=\rb 10 mg\rc") == b"ab 10 mg\r\nc"


@pytest.mark.parametrize("name", sorted(transfer.UUENCODE))
def test_a_uuencoded_file_is_the_file(name: str) -> None:
    assert transfer.decode(b"begin 644 a.txt\r\n#0V%T\r\n`\r\nend\r\nfooter", name) == b"Cat"


@pytest.mark.parametrize(
    ("zone", "hour"),
    [("GMT+01:00", 9), ("GMT+0100", 9), ("+01:00", 9), (".5 +0100", 9), ("PM +0100", 21), ("MEZ", 9),
     ("+0100 (CET)", 9), ("-0000", 10), ("IST", None), ("", None), ("+9900", None)],
)  # fmt: skip
def test_a_date_is_the_right_time_or_none(zone: str, hour: int | None) -> None:
    gap = "" if zone.startswith(".") else " "
    expected = None if hour is None else dt.datetime(2026, 11, 30, hour, tzinfo=dt.UTC)
    assert parse_date(f"Mon, 30 Nov 2026 10:00:00{gap}{zone}") == expected


@pytest.mark.parametrize(
    ("time", "day", "hour"),
    [("24:00:00", 30, 23), ("12:00:00 AM", 29, 23), ("12:00:00 PM", 30, 11), ("1:00 pm", 30, 12),
     ("10.00.00", 30, 9)],
)  # fmt: skip
def test_midnight_and_noon_are_told_apart(time: str, day: int, hour: int) -> None:
    expected = dt.datetime(2026, 11, day, hour, tzinfo=dt.UTC)
    assert parse_date(f"Mon, 30 Nov 2026 {time} +0100") == expected


@pytest.mark.parametrize(
    ("written", "hour"),
    [("2026-11-30T10:00:00Z", 10), ("2026-11-30 10:00:00.5 +0100", 9), ("2026-11-30T10:00:00", None),
     ("2026-13-30T10:00:00Z", None), ("Mon, 30 Nov 2026 10 : 00 : 00 +0100", 9)],
)  # fmt: skip
def test_other_forms_of_a_date_are_right_or_none(written: str, hour: int | None) -> None:
    expected = None if hour is None else dt.datetime(2026, 11, 30, hour, tzinfo=dt.UTC)
    assert parse_date(written) == expected


def test_identifiers_stand_between_comments_and_phrases() -> None:
    assert parse_ids("<a@x><b@x>") == ("<a@x>", "<b@x>")
    assert parse_ids("Yours (of <old@x> (then)) <a@x>") == ("<a@x>",)
    assert parse_ids("a letter of Monday") == ()


def test_comments_are_whole_words_outside_quotes() -> None:
    assert without_comments("b1 (the boundary)").strip() == "b1"
    assert without_comments('r(1).pdf; name="r (1).pdf"') == 'r(1).pdf; name="r (1).pdf"'
