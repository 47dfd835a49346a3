"""What a trace shows of the wire: no secret, and nothing of a letter."""

import base64
import logging
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from medmail_cli.transport import trace
from medmail_cli.transport.http import Limits, fetch
from tests.support.webserver import serving

SECRET = b"correct horse battery"


@given(st.binary(max_size=200))
@example(b"QUIT\r\nMAIL FROM:<x@y>\r\n")
def test_no_data_is_taken_for_commands(body: bytes) -> None:
    whole = b"MAIL FROM:<a@x>\r\nRCPT TO:<b@x>\r\nBDAT %d LAST\r\n" % len(body) + body + b"RSET\r\n"
    shown = trace.smtp_commands(whole, secret=False)
    assert shown[:2] == ["MAIL FROM:<a@x>", "RCPT TO:<b@x>"]
    assert shown[2:] == [f"BDAT {len(body)} LAST", f"[{len(body) + 6} octets]"]


@given(st.binary(min_size=1, max_size=60))
@example(b"\x40\x04\xc0")  # DATA in base64
def test_of_a_login_the_mechanism_alone_is_shown(secret: bytes) -> None:
    word = base64.b64encode(secret)
    assert trace.smtp_commands(word + b"\r\n", secret=True) == [f"[{len(word) + 2} octets]"]
    assert trace.smtp_commands(b"AUTH PLAIN " + word + b"\r\n", secret=True) == [
        "AUTH PLAIN",
        f"[{len(word) + 3} octets]",
    ]
    assert trace.imap_command(b"M1 AUTHENTICATE PLAIN " + word).startswith("M1 AUTHENTICATE PLAIN [")
    assert word.decode() not in trace.imap_command(b"M1 LOGIN bob " + b'"' + word + b'"')
    for line in (b"+ " + word, b"M1 BAD what is LOGIN bob " + word, b"* NO [ALERT] " + word, b"* " + word):
        assert word.decode() not in trace.imap_response(line + b"\r\n", secret=True).removesuffix(" octets]")


@given(st.text(alphabet='"\\ ab', max_size=40))
def test_no_string_of_a_message_is_shown(text: str) -> None:
    line = b'* 3 FETCH (UID 7 BODY[HEADER.FIELDS (MESSAGE-ID)] "' + text.encode() + SECRET + b'")\r\n'
    shown = trace.imap_response(line, secret=False)
    assert shown.startswith("* 3 FETCH (UID 7 BODY[")
    if text.count('"') == 0 and not text.endswith("\\"):
        assert SECRET.decode() not in shown


def test_other_lines_are_shown_as_they_are() -> None:
    for line in (b'* LIST (\\HasNoChildren) "/" "Bo\xc3\xaete"', b"M3 NO [LIMIT] too many", b"* 3 EXISTS"):
        assert trace.imap_response(line + b"\r\n", secret=False) == line.decode()
    assert trace.imap_command(b"M2 EXAMINE INBOX") == "M2 EXAMINE INBOX"
    assert trace.smtp_commands(b"EHLO me\r\n", secret=False) == ["EHLO me"]


def test_of_http_method_path_status_and_sizes_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trace, "_logger", None)
    monkeypatch.setattr(logging, "raiseExceptions", True)
    trace.begin(tmp_path / "trace")
    try:
        with serving() as server:
            server.files["/list"] = SECRET
            limits = Limits(allow_private=True)
            assert fetch(f"{server.url}/list", limits) == SECRET
    finally:
        for handler in list(logging.getLogger("medmail.wire").handlers):
            logging.getLogger("medmail.wire").removeHandler(handler)
            handler.stream.close()  # type: ignore[attr-defined]  # the one that begin made
    said = (tmp_path / "trace").read_text()
    assert " > GET /list [0 octets]" in said
    assert f" < 200 [{len(SECRET)} octets]" in said
    assert SECRET.decode() not in said
