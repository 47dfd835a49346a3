r"""Strings from strangers, made safe to show: nothing in them moves the cursor, hides or reorders text.

C0 and C1 controls, bidirectional controls, line separators and lone surrogates are shown as ``\xNN`` or
``\uNNNN`` (Unicode Technical Report 36; CVE-2021-42574).
"""

import re

_CONTROLS = "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff"
_IN_TEXT = re.compile(f"[{_CONTROLS}]")
_IN_LINE = re.compile(f"[{_CONTROLS}\t\n]")


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def line(value: object) -> str:
    """``value`` on one line: newline and tab are escaped too."""
    return _IN_LINE.sub(_escape, str(value))


def text(value: str) -> str:
    """A text of several lines: newline (also CRLF, as newline) and tab stay."""
    return _IN_TEXT.sub(_escape, value.replace("\r\n", "\n"))


def json_text(encoded: str) -> str:
    """Encoded JSON whose strings keep their value but show no control (JSON's own escapes)."""
    if encoded.isprintable():  # no control is, of any kind
        return encoded
    return _IN_TEXT.sub(lambda match: f"\\u{ord(match.group()):04x}", encoded)
