"""MIME entities as slices of the bytes received (RFC 2045, 2046, 5322).

A signature is checked over what came, so nothing here is ever serialised again: an entity is three
offsets into one ``bytes`` object. Bodies are searched for boundaries with ``bytes.find`` and never read
line by line, which keeps a 33 MB message at a few milliseconds. All limits are there to bound the time
and memory that a hostile message may cost; exceeding one raises ``malformed``.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

from medmail_cli.errors import MedmailError
from medmail_cli.smime import charsets, transfer
from medmail_cli.smime.fields import Field, decode_words, parse_parameters
from medmail_cli.smime.syntax import without_comments

MAX_HEADER = 1 << 20  # a letter to thousands of recipients has about 200 kB
MAX_FIELDS = 4000
MAX_PARTS = 2000
MAX_DEPTH = 20

# some gateways turn CRLF into CR CR LF
_HEADER_END = re.compile(rb"\n\r*\n")
_NO_HEADER = re.compile(rb"\r*\n")
_MBOX_LINE = re.compile(rb">?From (?![ \t]*:)[^\n]{0,1000}\n")
_FIELD = re.compile(rb"^([\x21-\x39\x3b-\x7e]{1,200})[ \t]*:.*(?:\n[ \t].*)*", re.MULTILINE)
_TYPE = re.compile(r"[^\s/\"();,]+/[^\s/\"();,]+\Z")
_BEFORE = re.compile(rb"(?:\xef\xbb\xbf|[ \t]*+[\r\n])++")
_ODD_START = re.compile(rb"(?:\xef\xbb\xbf)?[\r\n]*")
_FIRST_FIELD = re.compile(rb"[\x21-\x39\x3b-\x7e]{1,200}[ \t]*:")
_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Entity:
    """A header and a body: ``source[start:end]``, the body beginning at ``body``."""

    source: bytes
    start: int
    body: int
    end: int
    fields: tuple[Field, ...]
    content_type: str
    """Type and subtype in lower case; where none is given ``text/plain`` (RFC 2045 §5.2), or a digest's."""
    parameters: Mapping[str, str]
    encoding: str
    """The content transfer encoding in lower case."""
    children: tuple["Entity", ...] = ()

    @property
    def raw(self) -> memoryview:
        """The whole entity as received."""
        return memoryview(self.source)[self.start : self.end]

    def all(self, name: str) -> tuple[Field, ...]:
        """Every field of that name (in lower case), in order."""
        return tuple(field for field in self.fields if field.name == name)

    def first(self, name: str) -> str | None:
        """The unfolded value of the first field of that name."""
        for field in self.fields:
            if field.name == name:
                return field.value
        return None

    def text(self, name: str) -> str | None:
        """The first field of that name, for showing: encoded words decoded."""
        value = self.first(name)
        return None if value is None else decode_words(value)

    @cached_property
    def disposition(self) -> tuple[str, Mapping[str, str]]:
        """Content-Disposition: its kind in lower case ("" where absent) and its parameters."""
        value = self.first("content-disposition")
        return parse_parameters(value) if value else ("", _NOTHING)

    @property
    def filename(self) -> str | None:
        """The name the sender gave the part: the disposition's, else Content-Type's ``name``."""
        return self.disposition[1].get("filename") or self.parameters.get("name") or None

    def walk(self) -> Iterator["Entity"]:
        """This entity and all below it, outermost first."""
        yield self
        for child in self.children:
            yield from child.walk()


class _Budget:
    """How many parts a message may still have."""

    def __init__(self) -> None:
        self.parts = MAX_PARTS

    def spend(self) -> None:
        self.parts -= 1
        if self.parts < 0:
            raise MedmailError("malformed", what="message", reason="too-many-parts")


def begin(raw: bytes) -> tuple[bytes, bool]:
    """A message as gateways and editors leave it, without the mark and the empty lines that stand before it.

    Also whether its lines ended in CR alone, which is repaired: nothing could be read otherwise.
    """
    before = _BEFORE.match(raw)
    if before:
        raw = raw[before.end() :]
    repaired = b"\n" not in raw[:MAX_HEADER] and b"\r" in raw
    return raw.replace(b"\r", b"\r\n") if repaired else raw, repaired


def header_span(source: bytes) -> tuple[int, int]:
    """Where the header of a message begins and ends, past the first line of an mbox file ("From …")."""
    start = _first_line(source, 0, len(source))
    end = _header_end(source, start, len(source))
    return start, end.start() if end else len(source)


def _first_line(source: bytes, start: int, end: int) -> int:
    line = _MBOX_LINE.match(source, start, end)
    return line.end() if line else start


def _header_end(source: bytes, start: int, end: int) -> re.Match[bytes] | None:
    """What stands between header and body."""
    return _NO_HEADER.match(source, start, end) or _HEADER_END.search(source, start, end)


def parse(source: bytes, start: int = 0, end: int | None = None) -> Entity:
    """Read ``source[start:end]`` as an entity, its parts included.

    A first line of an mbox file ("From …") is passed over. Lines that are no field are ignored. Raises
    ``malformed`` where there is no header field at all or a limit is passed.
    """
    end = len(source) if end is None else end
    entity = _entity(source, _first_line(source, start, end), end, 0, _Budget())
    if not entity.fields:
        raise MedmailError("malformed", what="message", reason="no-header")
    return entity


def parse_inner(source: bytes) -> Entity:
    """Read what a CMS layer held: like :func:`parse`, but it may be no MIME entity (:func:`reread`)."""
    return reread(source, 0, len(source))


def reread(source: bytes, start: int, end: int) -> Entity:
    """Read ``source[start:end]`` as what somebody signed or encrypted, which may be a bare text or file.

    A mark, empty lines or lines ended by CR alone before or in a header of MIME's are read past; the octets
    stay what they are, for a signature is over them.
    """
    begun = _ODD_START.match(source, start, end)
    odd = begun.end() if begun else start
    is_header = _FIRST_FIELD.match(source, odd, end) is not None
    if is_header and source.find(b"\n", start, min(end, start + MAX_HEADER)) < 0:
        repaired = source[odd:end].replace(b"\r", b"\r\n")
        entity = or_text(_entity(repaired, 0, len(repaired), 0, _Budget()))
        return entity if entity.fields else _bare(source, start, end)
    if is_header and odd > start:
        entity = or_text(_entity(source, odd, end, 0, _Budget()))
        if entity.fields:
            return entity
    if not is_header and odd == start and not _looks_like_text(source[start : min(end, start + 4096)]):
        return _bare(source, start, end)  # nothing in a file is a header
    return or_text(_entity(source, start, end, 0, _Budget()))


_KINDS = (
    (b"%PDF-", "application/pdf"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"PK\x03\x04", "application/zip"),
    (b"{\\rtf", "application/rtf"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/x-ole-storage"),
    (b"\x78\x9f\x3e\x22", "application/ms-tnef"),
)


def kind_of(data: bytes | memoryview) -> str | None:
    """The media type of a file by its first octets; None where they say nothing."""
    head = bytes(data[:132])
    if head[128:] == b"DICM":
        return "application/dicom"
    return next((kind for first, kind in _KINDS if head.startswith(first)), None)


def _looks_like_text(head: bytes) -> bool:
    return head.translate(None, _CONTROLS) == head and kind_of(head) in (None, "application/rtf")


_CONTROLS = bytes(set(range(32)) - set(b"\t\n\f\r\x1b\x1a"))


def _bare(source: bytes, start: int, end: int) -> Entity:
    """What is no MIME entity: a text, or a file where it is not text."""
    head = source[start : min(end, start + 4096)]
    content_type = "text/plain" if _looks_like_text(head) else kind_of(head) or "application/octet-stream"
    if kind_of(head) == "application/rtf":
        content_type = "application/rtf"
    return Entity(source, start, start, end, (), content_type, _NOTHING, "8bit")


def or_text(entity: Entity) -> Entity:
    """The entity, or where it has no header field of MIME's all of it as plain text.

    Peers sign and encrypt bare texts too, though RFC 8551 §3.1 asks for a MIME entity; a first line with a
    colon makes no header of what was written to be read.
    """
    names = (field.name for field in entity.fields)
    if any(name == "mime-version" or name.startswith("content-") for name in names):
        return entity
    # an empty header is one too
    if _NO_HEADER.match(entity.source, entity.start, entity.end):
        return entity
    return _bare(entity.source, entity.start, entity.end)


def _entity(
    source: bytes, start: int, end: int, depth: int, budget: _Budget, default: str = "text/plain"
) -> Entity:
    budget.spend()
    window = min(end, start + MAX_HEADER)
    header_ending = _header_end(source, start, window)
    if header_ending:
        header_end, body = header_ending.span()
    elif window < end:
        raise MedmailError("malformed", what="message", reason="header-too-long")
    else:
        header_end = body = end
    fields = _fields(source[start:header_end])
    if not fields and header_end > start:
        body = start  # the empty line before a text was forgotten
    content_type, parameters = default, _NOTHING
    encoding = "7bit"
    seen: set[str] = set()
    for field in fields:
        # the first field of several counts, as in most readers
        if field.name in seen:
            continue
        seen.add(field.name)
        if field.name == "content-type":
            content_type, parameters = parse_parameters(field.value)
            if not _TYPE.match(content_type):
                content_type = "text/plain"
        elif field.name == "content-transfer-encoding":
            encoding = without_comments(field.value).partition(";")[0].strip(' \t".,').lower()
    entity = Entity(source, start, body, end, fields, content_type, parameters, encoding)
    boundary = parameters.get("boundary", "")
    if not content_type.startswith("multipart/") or not boundary:
        return entity
    if depth >= MAX_DEPTH:
        raise MedmailError("malformed", what="message", reason="too-deep")
    # RFC 2046 §5.1.5
    default = "message/rfc822" if content_type == "multipart/digest" else "text/plain"
    inside, first, last = source, body, end
    spans = list(_parts(source, body, end, boundary.encode()))
    if not spans and encoding in ("base64", "quoted-printable"):
        # RFC 2045 §6.4 forbids it; those who do it mostly say it only
        inside = transfer.decode(source[body:end], encoding)
        first, last = 0, len(inside)
        spans = list(_parts(inside, first, last, boundary.encode()))
    children = tuple(_entity(inside, a, b, depth + 1, budget, default) for a, b in spans)
    return Entity(source, start, body, end, fields, content_type, parameters, encoding, children)


def _fields(header: bytes) -> tuple[Field, ...]:
    fields: list[Field] = []
    for match in _FIELD.finditer(header):
        if len(fields) >= MAX_FIELDS:
            raise MedmailError("malformed", what="message", reason="too-many-fields")
        raw = match[0].rstrip(b"\r")
        if b"\n" in raw:
            raw = b"\r\n".join(line.rstrip(b"\r") for line in raw.split(b"\n"))
        fields.append(Field(match[1].decode("ascii").lower(), raw))
    return tuple(fields)


def _parts(source: bytes, start: int, end: int, boundary: bytes) -> Iterator[tuple[int, int]]:
    """The spans between boundary delimiter lines (RFC 2046 §5.1.1); an unclosed last part runs to the end."""
    delimiter = b"--" + boundary.rstrip()
    begun: int | None = None
    position = start
    for _ in range(10 * MAX_PARTS):
        at = source.find(delimiter, position, end)
        if at < 0:
            break
        position = at + len(delimiter)
        if at > start and source[at - 1] != 0x0A:
            continue
        line_end = source.find(b"\n", position, min(end, position + 1000))
        rest = source[position : line_end if line_end >= 0 else min(end, position + 1000)].strip()
        if rest not in (b"", b"--"):
            continue
        if begun is not None:
            # the line end before the delimiter belongs to it
            stop = at - 1 if at > begun else at
            if stop > begun and source[stop - 1] == 0x0D:
                stop -= 1
            yield begun, stop
            begun = None
        if rest == b"--" or line_end < 0:
            return
        begun = position = line_end + 1
        position -= 1  # an empty part's delimiter follows at once; its line end is this one
    else:
        raise MedmailError("malformed", what="message", reason="too-many-parts")
    if begun is not None:
        yield begun, end


def decode_body(entity: Entity) -> bytes:
    """The body with its transfer encoding undone; damage is read over, as far as it can be."""
    return transfer.decode(memoryview(entity.source)[entity.body : entity.end], entity.encoding)


decode_base64 = transfer.decode_base64


def decode_text(entity: Entity) -> str:
    """The body of a text part as text, with plain newlines, its final one kept.

    The charset is the stranger's (:mod:`.charsets`); an HTML text may name its own. Soft line breaks of
    ``format=flowed`` (RFC 3676) are joined.
    """
    body = decode_body(entity)
    charset = entity.parameters.get("charset", "")
    if not charset and entity.content_type == "text/html":
        charset = charsets.declared(body)
    if b"\r\r\n" in body:
        body = canonical(body)
    text = charsets.decode(body, charset).replace("\r\n", "\n").replace("\r", "\n")
    if entity.parameters.get("format", "").lower() == "flowed":
        text = _unflow(text, delete_space=entity.parameters.get("delsp", "").lower() == "yes")
    return text


def _unflow(text: str, *, delete_space: bool) -> str:
    out: list[str] = []
    flowing, depth_before = False, 0
    for line in text.split("\n"):
        content = line.lstrip(">")
        depth = len(line) - len(content)
        content = content.removeprefix(" ")
        # the signature separator is never flowed (RFC 3676 §4.3)
        if not (flowing and depth == depth_before and content != "-- "):
            out.append(("\n" if out else "") + ">" * depth + (" " if depth else ""))
        flowing, depth_before = content.endswith(" ") and content != "-- ", depth
        out.append(content[:-1] if flowing and delete_space else content)
    return "".join(out)


def canonical(data: bytes) -> bytes:
    """Text with every line ended by CRLF (RFC 8551 §3.1.1), the repair for gateways that change line ends."""
    if re.search(rb"(?<!\r)\n|\r(?!\n)", data) is None:
        return data
    if b"\r\r\n" in data:
        # the CR left of a doubled one at the end, where a part's delimiter took the rest
        data = data.removesuffix(b"\r")
    # a run of CRs is taken whole: looked at again from each of them, a stranger's million would take hours
    return re.sub(rb"\r+\n?|\n", lambda end: b"\r\n" * (1 if end[0][-1:] == b"\n" else len(end[0])), data)
