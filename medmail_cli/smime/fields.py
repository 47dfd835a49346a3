"""Reading header fields that strangers wrote: RFC 5322, 2047, 2231 and 6532.

Every function takes whatever bytes or text came and gives the best honest reading of it; none raises, and
all run in time linear in what they read. Nothing read from an encoded word is ever taken for syntax: an
address inside one stays part of a display name.
"""

import binascii
import re
import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from types import MappingProxyType

from medmail_cli.smime import charsets
from medmail_cli.smime.syntax import without_comments
from medmail_cli.smime.transfer import decode_base64

_WORD = re.compile(r"=\?([^?\s]{1,75})\?([bBqQ])\?([^?]*)\?=")
_TOKEN = re.compile(
    r'"((?:[^"\\]|\\.?)*+)(?:"|\Z)'  # 1 quoted string, an unterminated one runs to the end
    r"|(=\?[^?\s]{1,75}\?[bBqQ]\?[^?\s]*\?=)"  # 2 encoded word, whatever stands in it
    r"|<([^<>]*)>"  # 3 angle address
    r"|([,;:])"  # 4 separators
    r"|(\()"  # 5 comment
    r'|([^\s"<>,;:()]+)'  # 6 atom
    r"|(\s+)"  # 7 white space
    r"|(.)",  # 8 anything out of place
    re.DOTALL,
)
_IN_COMMENT = re.compile(r"\\.?|[()]")
_SPECIAL = re.compile(r'[()<>\[\]:;@\\,"]')
_FOLD = re.compile(r"\r?\n(?=[ \t])")
_PARAMETER = re.compile(
    r';\s*([^\s=;"]+)\s*=\s*("(?:[^"\\]|\\.?)*+(?:"|\Z)|(?:=\?[^?\s]{1,75}\?[bBqQ]\?[^?]{0,500}\?=|[^;])*+)',
    re.DOTALL,
)
_WHOLE_PARAMETER = re.compile(_PARAMETER.pattern + "[^;]*", re.DOTALL)
"""With what stands behind a quoted value, and could make another parameter of what is before."""
_SEGMENT = re.compile(r"([^*]+)(?:\*(\d{1,3}))?(\*)?\Z")
_ADDRESS = re.compile(
    r'(?:"[^"\x00-\x1f\x7f]*"|[^\s"<>()\[\]:;,@\\\x00-\x1f\x7f]+)@[^\s"<>()@,;:\\\x00-\x1f\x7f]+'
)
MOST_MAILBOXES = 10_000
"""Of one field; what follows is left out. No letter of a person or a laboratory goes to so many."""


_LONGEST_SHARED = 200
"""Characters of a name that several addresses behind it bear; a longer one would cost as its square."""


@dataclass(frozen=True)
class Field:
    """One header field as it came: ``name`` in lower case, ``raw`` without its last line end."""

    name: str
    raw: bytes

    @cached_property
    def value(self) -> str:
        """The unfolded text after the colon (RFC 5322 §2.2.3), encoded words left as they are."""
        body = self.raw.partition(b":")[2]
        text = to_text(body)
        if "\n" in text:
            text = _FOLD.sub("", text)
        return text.strip(" \t\r\n")

    @property
    def text(self) -> str:
        """The value with encoded words decoded, for showing."""
        return decode_words(self.value)

    @cached_property
    def mailboxes(self) -> "tuple[Mailbox, ...]":
        """The mailboxes that the value lists, read once however often they are looked at."""
        return parse_mailboxes(self.value)


@dataclass(frozen=True)
class Mailbox:
    """A person's mailbox; ``address`` is empty where a header field names no usable one."""

    address: str
    name: str = ""

    def __str__(self) -> str:
        """As RFC 5322 §3.4 writes it, so that no name reads as another address."""
        if not self.name:
            return self.address
        name = self.name
        if _SPECIAL.search(name):
            name = '"' + re.sub(r'(["\\])', r"\\\1", name) + '"'
        return f"{name} <{self.address}>"


def to_text(data: bytes) -> str:
    """Header bytes as text: UTF-8 (RFC 6532), else Windows-1252, so that every byte has a reading."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return charsets.windows_1252(data)


def decode_words(text: str) -> str:
    """Decode RFC 2047 encoded words; adjacent ones of one charset are joined before they are decoded."""
    if "=?" not in text:
        return text
    out: list[str] = []
    pending: list[bytes] = []
    charset = ""
    end = 0

    def flush() -> None:
        if pending:
            out.append(charsets.decode(b"".join(pending), charset))
            pending.clear()

    for match in _WORD.finditer(text):
        between = text[end : match.start()]
        if between.strip(" \t\r\n") or not end:
            flush()
            out.append(between)
        name = match[1].partition("*")[0].lower()  # RFC 2231 §5: a language may follow
        if name != charset:
            flush()
            charset = name
        pending.append(_word_bytes(match[2], match[3]))
        end = match.end()
    flush()
    out.append(text[end:])
    return "".join(out)


def _word_bytes(encoding: str, payload: str) -> bytes:
    data = payload.encode("utf-8")
    if encoding in "qQ":
        return binascii.a2b_qp(data, header=True)
    return decode_base64(data)


def _unquote(text: str) -> str:
    if "\\" not in text:
        return text
    return re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)


def parse_parameters(value: str) -> tuple[str, Mapping[str, str]]:
    """Read ``text/plain; charset=utf-8`` as its head in lower case and its parameters (RFC 2045, 2231).

    Continuations and charsets of RFC 2231 are put together; the first of several parameters of one name
    counts; encoded words in quoted values, which RFC 2047 forbids and people send, are decoded.
    """
    # few letters say something new here; long values are not worth keeping
    return _known_parameters(value) if len(value) <= 200 else _parse_parameters(value)


def _parse_parameters(value: str) -> tuple[str, Mapping[str, str]]:
    value = without_comments(value)
    head = value.partition(";")[0].strip().lower()
    plain: dict[str, str] = {}
    segments: dict[str, dict[int, tuple[str, bool]]] = {}
    for match in _PARAMETER.finditer(value):
        name, raw = match[1].lower(), match[2].strip()
        # nobody quotes a letter or digit: before one a backslash parts the names of a path
        text = re.sub(r"\\(\W)", r"\1", raw[1:].removesuffix('"')) if raw.startswith('"') else raw
        shape = _SEGMENT.match(name) if "*" in name else None
        if shape and (shape[2] or shape[3]):
            segments.setdefault(shape[1], {}).setdefault(int(shape[2] or 0), (text, bool(shape[3])))
        else:
            plain.setdefault(name, decode_words(text))
    for name, numbered in segments.items():
        if joined := decode_words(_join_segments(numbered)):
            plain[name] = joined
    return head, MappingProxyType(plain)


_known_parameters = lru_cache(maxsize=512)(_parse_parameters)


def without_parameters(raw: bytes, names: Collection[str]) -> bytes:
    """A field of MIME as it came but for its parameters of these names (in lower case)."""

    def kept(match: re.Match[str]) -> str:
        return "" if match[1].partition("*")[0].lower() in names else match[0]

    return _WHOLE_PARAMETER.sub(kept, raw.decode("latin-1")).encode("latin-1")


def _join_segments(numbered: Mapping[int, tuple[str, bool]]) -> str:
    charset = "utf-8"
    out: list[bytes] = []
    first = min(numbered)  # some programs count from 1
    for number in range(first, first + len(numbered) if first <= 1 else first):
        if number not in numbered:
            break
        text, extended = numbered[number]
        if extended:
            if number == first and text.count("'") >= 2:
                charset, _, text = text.split("'", 2)
            data = re.sub(rb"%([0-9A-Fa-f]{2})", lambda m: bytes([int(m[1], 16)]), text.encode("utf-8"))
        else:
            data = text.encode("utf-8")
        out.append(data)
    return charsets.decode(b"".join(out), charset)


def parse_mailboxes(value: str) -> tuple[Mailbox, ...]:
    """The mailboxes of an address list (RFC 5322 §3.4), groups opened, in order.

    What names no address yields a :class:`Mailbox` with an empty one, so that it stays visible; two
    addresses that a comma should part yield two, each with the name before it.
    """
    # one message asks several times for the same few fields; long ones are not worth keeping
    return _parse_known(value) if len(value) <= 500 else _parse_mailboxes(value)


def _parse_mailboxes(value: str) -> tuple[Mailbox, ...]:
    mailboxes: list[Mailbox] = []
    words: list[str] = []  # tokens as decoded for a display name
    bare: list[list[str]] = [[]]  # the same as written, split at white space, for an address without brackets
    angles: list[tuple[str, list[str]]] = []  # each with the words before it
    comments: list[str] = []

    def flush() -> None:
        if angles:
            angles[-1][1].extend(words)
            words.clear()
        name = _name(words)
        candidates = [joined for piece in bare if "@" in (joined := "".join(piece))]
        if angles:
            for angle, before in angles:
                name = _name(before) or name[:_LONGEST_SHARED]
                mailboxes.append(Mailbox(_address(angle), name))
        elif candidates:
            first, *others = candidates
            mailboxes.append(Mailbox(_address(first), " ".join(comments)))
            mailboxes.extend(Mailbox(_address(piece)) for piece in others)
        elif name:
            mailboxes.append(Mailbox("", name))
        for collected in (words, angles, comments):
            collected.clear()
        bare[:] = [[]]

    position = 0
    while (match := _TOKEN.match(value, position)) and len(mailboxes) < MOST_MAILBOXES:
        position = match.end()
        quoted, encoded, angle, separator, comment, atom, space, odd = match.groups()
        if quoted is not None:
            words.append(_unquote(quoted))
            bare[-1].append(match[0])
        elif encoded is not None:
            words.append(encoded)
            bare[-1].append(encoded)
        elif angle is not None:
            angles.append((angle, words[:]))
            words.clear()
        elif separator == ":":
            # the name of a group ends here; inside an address list a colon has no other meaning
            words.clear()
            bare[:] = [[]]
        elif separator:
            flush()
        elif comment:
            position, text = _comment(value, position)
            comments.append(decode_words(text))
        elif atom is not None:
            words.append(atom)
            bare[-1].append(atom)
        elif space is not None:
            words.append(" ")
            if bare[-1]:
                bare.append([])
        elif odd:
            words.append(odd)
            bare[-1].append(odd)
    flush()
    return tuple(mailboxes)


def _name(words: list[str]) -> str:
    return decode_words(" ".join("".join(words).split()))


_parse_known = lru_cache(maxsize=512)(_parse_mailboxes)


def _comment(value: str, start: int) -> tuple[int, str]:
    depth, position = 1, start
    for match in _IN_COMMENT.finditer(value, start):
        position = match.end()
        depth += {"(": 1, ")": -1}.get(match[0], 0)
        if not depth:
            return position, value[start : position - 1]
    return len(value), value[start:]


def _address(text: str) -> str:
    text = re.sub(r"\([^()]*\)", "", text).strip()
    if text.startswith("@") and ":" in text:  # obsolete source route
        text = text.rpartition(":")[2].strip()
    return text if _ADDRESS.fullmatch(text) else ""


def addresses_in(text: str) -> tuple[str, ...]:
    """Every address that stands somewhere in shown text, such as a display name meant to mislead.

    Wide and small forms of letters and of @ read as themselves; blanks around the @ are read over (RFC 5322
    §4.4 allows them, and the eye does). A domain has a dot: ``Medi@Lab`` is a name.
    """
    text = " ".join(unicodedata.normalize("NFKC", text).split())
    parts = (
        (match[1], match[2], match[3].rstrip(".'"))
        for match in re.finditer(r"([^\s\"'<>()\[\],;:@]{1,64})( ?@ ?)([^\s\"'<>()\[\],;:@]{1,255})", text)
    )
    return tuple(f"{local}@{domain}" for local, _, domain in parts if "." in domain)
