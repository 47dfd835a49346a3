"""Content transfer encodings undone, as exactly as what came allows (RFC 2045 §6; uuencode as POSIX has it).

Everything is a stranger's: nothing raises, everything runs in linear time, and where an encoding ends what
follows it (a list's footer, a scanner's line) is no part of the content.
"""

import binascii
import io
import re

import pybase64

UUENCODE = frozenset({"x-uuencode", "uuencode", "x-uue", "uue"})
IDENTITY = frozenset(
    {"", "7bit", "8bit", "binary", "7-bit", "8-bit", "7bits", "8bits", "none", "utf-8", "utf8"}
)
"""Names of what leaves octets as they are, some of them mistakes that are common."""
KNOWN = IDENTITY | UUENCODE | {"base64", "quoted-printable"}

_CHUNK = 1 << 16
_BLANKS = b" \t\r\n\v\f"
_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_JUNK = bytes(set(range(256)) - set(_ALPHABET))
_FOREIGN = re.compile(rb"[^A-Za-z0-9+/= \t\v\f]")
_PIECE = re.compile(rb"([^=]*)(=*)")
_LINE_END = re.compile(rb"\r\n|\r|\n")
# whole runs, or a long one would be read again from each of its octets
_LINE_ENDS = re.compile(rb"(\r++)(\n?)")
# begins only where a run of blanks does, so that a long one is read once
_LATE_BLANKS = re.compile(rb"(?<![ \t])[ \t]++(?=\r?\n|\Z)")
_UU_BEGIN = re.compile(rb"^begin [0-7]{3,4} [^\r\n]*(?:\r?\n|\r)", re.MULTILINE)


def decode(body: bytes | memoryview, encoding: str) -> bytes:
    """A body with its encoding (in lower case) undone; one that is not :data:`KNOWN` stays as it is."""
    if encoding == "base64":
        return decode_base64(body)
    data = bytes(body)
    if encoding == "quoted-printable":
        return decode_quoted_printable(data)
    return decode_uu(data) if encoding in UUENCODE else data


def decode_base64(encoded: bytes | memoryview) -> bytes:
    """Base64 in one or several padded pieces; lost padding, blanks and stray characters do not matter.

    It ends at a line of prose: words with a character that base64 has not, or none that it has. After
    padding it also ends at what cannot be another piece. What is prose from its first line on, with no more
    than a word of base64 in it, was never encoded, whatever its label says, and stays as it is.
    """
    try:
        return _decode_lines(encoded)
    except ValueError:
        return _decode_pieces(bytes(encoded))


def _decode_lines(encoded: bytes | memoryview) -> bytes:
    """What is base64 from end to end, piece by piece: a large body is held once. Raises ValueError."""
    out, at, rest = io.BytesIO(), 0, b""
    while at < len(encoded):
        letters = rest + _letters(encoded[at : at + _CHUNK])
        if b"=" in letters:
            break
        whole = len(letters) & ~3
        out.write(pybase64.b64decode(letters[:whole], validate=True))
        at, rest = at + _CHUNK, letters[whole:]
    # padding ends it all
    out.write(pybase64.b64decode(rest + _letters(encoded[at:]), validate=True))
    return out.getvalue()


def _letters(lines: bytes | memoryview) -> bytes:
    return bytes(lines).replace(b"\n", b"").replace(b"\r", b"")


_A_WORD = 40
"""Letters, of which prose may have as many in a row without being base64."""


def _decode_pieces(data: bytes) -> bytes:
    out: list[bytes] = []
    piece: list[bytes] = []
    padded = prose = False
    for line in _LINE_END.split(data):
        line = line.lstrip(b"> \t").rstrip()
        if _is_prose(line, padded=padded and not piece):
            if out or piece:
                break
            prose = True
            continue
        for match in _PIECE.finditer(line):
            if octets := match[1].translate(None, _JUNK):
                piece.append(octets)
            if match[2] and piece:
                out.append(_decode_piece(b"".join(piece)))
                piece, padded = [], True
    rest = b"".join(piece)
    if prose and not padded and len(rest) < _A_WORD:
        return data
    if not padded or _could_be_whole(rest):
        out.append(_decode_piece(rest))
    return b"".join(out)


def _is_prose(line: bytes, *, padded: bool) -> bool:
    if not line:
        return False
    words = len(line.split())
    if _FOREIGN.search(line):
        return words > 1 or not line.translate(None, _JUNK)
    return padded and words > 1 and len(line.translate(None, _BLANKS)) % 4 != 0


def _could_be_whole(piece: bytes) -> bool:
    """Whether a last piece without padding is one that lost it: the bits that nothing uses are zero."""
    over = len(piece) % 4
    if over < 2:
        return over == 0
    return not _ALPHABET.index(piece[-1:]) & (0x0F if over == 2 else 0x03)


def _decode_piece(piece: bytes) -> bytes:
    if len(piece) % 4 == 1:
        piece = piece[:-1]
    return pybase64.b64decode(piece + b"=" * (-len(piece) % 4))


def decode_quoted_printable(data: bytes) -> bytes:
    """Quoted-printable; blanks at a line's end go (RFC 2045 §6.7 (3)), a lone CR ends one too."""
    if b"\r" in data:
        data = _LINE_ENDS.sub(lambda run: b"\r\n" * (1 if run[2] else len(run[1])), data)
    return binascii.a2b_qp(_LATE_BLANKS.sub(b"", data))


def decode_uu(data: bytes) -> bytes:
    """The file that is uuencoded in ``data``; what is not stays as it is."""
    begin = _UU_BEGIN.search(data)
    out: list[bytes] = []
    for line in _LINE_END.split(data[begin.end() if begin else 0 :]):
        if line.rstrip() == b"end":
            break
        if not line:
            continue
        size = (line[0] - 32) & 63
        width = (size * 4 + 2) // 3
        # blanks, which stand for zeros, may have been lost at its end, and some add a check character
        body = line[1 : 1 + (size + 2) // 3 * 4].ljust(width, b" ")
        try:
            out.append(binascii.a2b_uu(line[:1] + body))
        except binascii.Error:
            if begin is None:
                return data
            break
    return b"".join(out)
