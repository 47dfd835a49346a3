"""An mbox is read as the messages that were put into it, whatever they say."""

import mailbox
import re
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medmail_cli.smime.mbox import spans, unquoted

LINES = st.lists(
    st.sampled_from([b"From here on", b"From a@b Mon Nov 30 10:00:00 2026", b">From a", b"", b"x", b"From:"])
    | st.binary(max_size=20).filter(lambda line: b"\n" not in line and b"\r" not in line),
    max_size=8,
)


@given(st.lists(LINES, min_size=1, max_size=5), st.sampled_from([b"\n", b"\r\n"]))
def test_what_was_quoted_into_an_mbox_comes_out_of_it(letters: list[list[bytes]], end: bytes) -> None:
    """By the rule that every line of ">"s and "From " gets one more."""
    messages = [end.join([b"Subject: x", b"", *lines, b""]) for lines in letters]
    file = b"".join(
        b"From dr.a@b.test Mon Nov 30 10:00:00 2026" + end + re.sub(rb"(?m)^(?=>*From )", b">", one) + end
        for one in messages
    )
    found = [unquoted(file[start:to]) for start, to in spans(file)]
    assert found[:-1] == messages[:-1]
    assert found[-1] == messages[-1] + end  # after the last nothing tells whose the empty line is


@given(st.lists(LINES, min_size=1, max_size=4))
def test_what_another_program_saved_is_as_many_messages(letters: list[list[bytes]]) -> None:
    with TemporaryDirectory() as folder:
        box = mailbox.mbox(Path(folder) / "mbox")
        for lines in letters:
            box.add(b"\n".join([b"Subject: x", b"", *lines, b""]))
        box.close()
        file = (Path(folder) / "mbox").read_bytes()
    assert len(list(spans(file))) == len(letters)


@pytest.mark.parametrize(
    "first",
    [
        b"From alice@medecin.test Mon Nov 23 09:30:00 2026\n",
        b"From - Mon Nov 23 09:30:00 2026\r\n",
        b"From MAILER-DAEMON Mon Nov  2 09:30:00 2026 +0100\n",
        b"From alice@medecin.test Mon, 23 Nov 2026 09:30:00 +0100\n",
    ],
)
def test_first_lines_as_programs_write_them(first: bytes) -> None:
    end = b"\r\n" if first.endswith(b"\r\n") else b"\n"
    message = b"Subject: x" + end + end + b"x" + end
    assert len(list(spans((first + message + end) * 3))) == 3


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"Subject: x\n\nhello\n\nFrom a@b Mon Nov 23 09:30:00 2026\n\nx",
        b"From the laboratory:\n\nFrom the ward:\n",
        b"From: a@b\n\n",
    ],
)
def test_what_is_no_mbox_is_not_cut(raw: bytes) -> None:
    assert list(spans(raw)) == []


def test_a_sentence_within_a_letter_begins_no_other() -> None:
    first = b"From a@b Mon Nov 23 09:30:00 2026\n"
    body = b"Subject: x\n\nTaken\n\nFrom Monday on: 5 mg at 09:30, then 10 mg\n"
    file = first + body + b"\n" + first + body
    assert len(list(spans(file))) == 2
