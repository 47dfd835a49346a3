"""A bounded reader of BER and DER (X.690), made for letters that strangers send.

Values are slices of the bytes given (memoryviews). Children are read one after the other when asked for, and
not kept, so that memory does not grow with their number. Nothing here recurses: the end of an element of
indefinite length is found by one loop, which remembers the ends of the elements inside it. Every fault is
MedmailError("malformed").
"""

import datetime as dt
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from medmail_cli.errors import MedmailError

BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING, NULL, OID = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06
SEQUENCE, SET, UTC_TIME, GENERALIZED_TIME = 0x10, 0x11, 0x17, 0x18
"""Tags as `Node.tag` gives them: the identifier octet without its constructed bit (0x20)."""

_CONSTRUCTED = 0x20
_MOST_ENDS = 1024  # without memory an end is found again at every level: more work, within the limit


@dataclass(frozen=True)
class Limits:
    """What a reader agrees to look at: octets in all, nesting, and elements.

    Element headers may be read 20,000 times, and once more for every ``octets_per_element`` octets, but never
    more than ``elements`` times: a second of work, and far more than ten thousand recipients or the chunks of
    a streaming sender ask for.
    """

    size: int = 1 << 30
    depth: int = 48
    elements: int = 1_000_000
    octets_per_element: int = 8


DEFAULT_LIMITS = Limits()


def malformed(detail: str) -> MedmailError:
    """The one error of this room for data that is not what it should be."""
    return MedmailError("malformed", what="message", detail=detail)


@dataclass(slots=True)
class _Source:
    """The octets under reading, how many elements may still be read, and the ends found so far."""

    data: memoryview
    depth: int
    elements: int
    ends: dict[int, int] = field(default_factory=dict)  # first content octet of indefinite element → its end

    def header(self, at: int, end: int) -> tuple[int, int, int]:
        """Tag with its constructed bit, where the content starts, and where it ends (-1: indefinite)."""
        self.elements -= 1
        if self.elements < 0:
            raise malformed("too-many-elements")
        data = self.data
        try:
            tag = data[at]
            at += 1
            if tag & 0x1F == 0x1F:
                tag, at = self._long_tag(tag, at)
            length = data[at]
            at += 1
            if length >= 0x80:
                if length == 0x80:
                    if not tag & _CONSTRUCTED:
                        raise malformed("indefinite-primitive")
                    return tag, at, -1
                octets = length & 0x7F
                if octets > 8:
                    raise malformed("length")
                start, at = at, at + octets
                if at > end:
                    raise malformed("truncated")
                length = int.from_bytes(data[start:at], "big")
        except IndexError:
            raise malformed("truncated") from None
        if length > end - at:
            raise malformed("truncated")
        return tag, at, at + length

    def _long_tag(self, first: int, at: int) -> tuple[int, int]:
        """Tag numbers of 31 and more; they occur in no structure of ours, only inside what we skip."""
        number = 0
        for position in range(at, at + 4):
            octet = self.data[position]
            number = number << 7 | octet & 0x7F
            if not octet & 0x80:
                return number << 8 | first, position + 1
        raise malformed("tag")

    def end_of_indefinite(self, start: int, limit: int, depth: int) -> int:
        """Where the content of the indefinite element that starts at ``start`` ends (its 00 00 follows)."""
        if start in self.ends:
            return self.ends[start]
        data = self.data
        open_elements = [(start, limit)]  # indefinite ones only: definite ones are stepped over
        at = start
        while True:
            if at + 2 > limit:
                raise malformed("truncated")
            if data[at] == 0 and data[at + 1] == 0:
                first, limit = open_elements.pop()
                if len(self.ends) < _MOST_ENDS:
                    self.ends[first] = at
                if not open_elements:
                    return at
                at += 2
                continue
            tag, content, end = self.header(at, limit)
            if tag == 0:
                raise malformed("end-of-contents")
            if end >= 0:
                at = end
                continue
            open_elements.append((content, limit))
            if depth + len(open_elements) > self.depth:
                raise malformed("too-deep")
            at = content


class Node:
    """One element: its tag, whether it is constructed, its content octets and all its octets (``raw``)."""

    __slots__ = ("_depth", "_source", "constructed", "content_end", "content_start", "end", "start", "tag")

    def __init__(self, source: _Source, at: int, limit: int, depth: int) -> None:
        if depth > source.depth:
            raise malformed("too-deep")
        tag, content, end = source.header(at, limit)
        self._source = source
        self._depth = depth
        self.tag = tag & ~_CONSTRUCTED
        self.constructed = bool(tag & _CONSTRUCTED)
        self.start = at
        self.content_start = content
        if end < 0:
            self.content_end = source.end_of_indefinite(content, limit, depth)
            self.end = self.content_end + 2
        else:
            self.content_end = self.end = end
        if tag == 0:
            raise malformed("end-of-contents")

    @property
    def content(self) -> memoryview:
        """The content octets, without a header and without the end-of-contents octets."""
        return self._source.data[self.content_start : self.content_end]

    @property
    def raw(self) -> memoryview:
        """All octets of the element as received."""
        return self._source.data[self.start : self.end]

    def elements(self, tag: int | None = None) -> "Iterator[Node]":
        """The elements inside a constructed one, which must have the tag if one is given."""
        if not self.constructed or (tag is not None and self.tag != tag):
            raise malformed("tag")
        return self._elements()

    def _elements(self) -> "Iterator[Node]":
        at = self.content_start
        while at < self.content_end:
            element = Node(self._source, at, self.content_end, self._depth + 1)
            yield element
            at = element.end

    def __repr__(self) -> str:
        length = self.content_end - self.content_start
        return f"Node(tag={self.tag:#x}, constructed={self.constructed}, length={length})"

    def fields(self, tag: int = SEQUENCE) -> "Fields":
        """A cursor over the elements inside this one, which must have the tag given."""
        if not self.constructed or self.tag != tag:
            raise malformed("tag")
        return Fields(self._source, self.content_start, self.content_end, self._depth + 1)

    def explicit(self, tag: int) -> "Node":
        """The one element inside an EXPLICIT tag."""
        fields = self.fields(tag)
        inner = fields.take()
        fields.end()
        return inner

    def octets(self, tag: int = OCTET_STRING) -> memoryview:
        """The octets of an OCTET STRING (or of one under an IMPLICIT ``tag``): a slice, joined if chunked."""
        if self.tag != tag:
            raise malformed("tag")
        if not self.constructed:
            return self.content
        return memoryview(b"".join(self._chunks(OCTET_STRING)))

    def _chunks(self, kind: int) -> Iterator[memoryview]:
        """The primitive pieces of a constructed string, at any depth, without a Node for each."""
        source, data = self._source, self._source.data
        open_strings = [self.content_end]
        resume: list[int] = []
        at = self.content_start
        while True:
            if at >= open_strings[-1]:
                open_strings.pop()
                if not open_strings:
                    return
                at = resume.pop()
                continue
            tag, content, end = source.header(at, open_strings[-1])
            if tag == kind:
                yield data[content:end]
                at = end
            elif tag == kind | _CONSTRUCTED:
                if self._depth + len(open_strings) > source.depth:
                    raise malformed("too-deep")
                after = end
                if end < 0:
                    end = source.end_of_indefinite(content, open_strings[-1], self._depth + len(open_strings))
                    after = end + 2
                open_strings.append(end)
                resume.append(after)
                at = content
            else:
                raise malformed("chunk")

    def integer(self) -> int:
        """An INTEGER (two's complement, at most 1,024 octets)."""
        content = self._primitive(INTEGER)
        if not 0 < len(content) <= 1024:
            raise malformed("integer")
        return int.from_bytes(content, "big", signed=True)

    def oid(self) -> str:
        """An OBJECT IDENTIFIER as dotted numbers."""
        return _dotted(bytes(self._primitive(OID)))

    def bits(self, tag: int = BIT_STRING) -> memoryview:
        """The octets of a BIT STRING that has no unused bits: a slice, joined if chunked."""
        if self.tag != tag:
            raise malformed("bit-string")
        chunks = list(self._chunks(BIT_STRING)) if self.constructed else [self.content]
        if not chunks or any(not chunk or chunk[0] for chunk in chunks):
            raise malformed("bit-string")
        return memoryview(b"".join(chunk[1:] for chunk in chunks)) if self.constructed else chunks[0][1:]

    def time(self) -> dt.datetime:
        """A UTCTime (two-digit years by RFC 5280: 50 is 1950) or GeneralizedTime, aware, in UTC."""
        if self.constructed or self.tag not in (UTC_TIME, GENERALIZED_TIME):
            raise malformed("time")
        return _time(bytes(self.content[:32]), two_digit_year=self.tag == UTC_TIME)

    def _primitive(self, tag: int) -> memoryview:
        if self.tag != tag or self.constructed:
            raise malformed("tag")
        return self.content


class Fields:
    """A cursor over the fields of a SEQUENCE: take what must come, take what may come, then `end`."""

    __slots__ = ("_at", "_depth", "_end", "_next", "_source")

    def __init__(self, source: _Source, at: int, end: int, depth: int) -> None:
        self._source, self._at, self._end, self._depth = source, at, end, depth
        self._next: Node | None = None  # read, but not what was asked for

    def take(self, tag: int | None = None) -> Node:
        """The next field, which must be there and, if a tag is given, have it."""
        field = self.maybe(tag)
        if field is None:
            raise malformed("missing-field")
        return field

    def maybe(self, tag: int | None = None) -> Node | None:
        """The next field if there is one and it has the tag given, else None."""
        field = self._next
        if field is None:
            if self._at >= self._end:
                return None
            field = Node(self._source, self._at, self._end, self._depth)
            self._at = field.end
        if tag is not None and field.tag != tag:
            self._next = field
            return None
        self._next = None
        return field

    def end(self) -> None:
        """Nothing may be left."""
        if self._next is not None or self._at < self._end:
            raise malformed("extra-field")


def parse(
    data: bytes | bytearray | memoryview, limits: Limits = DEFAULT_LIMITS, *, trailing: bool = False
) -> Node:
    """The one element that ``data`` holds, its insides read on demand; nothing before it.

    Nothing after it either, unless ``trailing`` octets are to be left unread.

    Raises MedmailError("malformed") with a ``detail``, here or later when elements are read; "too-large"
    when there are more than ``limits.size`` octets.
    """
    view = memoryview(data)
    if len(view) > limits.size:
        raise MedmailError("too-large", what="message", size=len(view), limit=limits.size)
    source = _Source(
        view, limits.depth, 20_000 + min(len(view) // limits.octets_per_element, limits.elements)
    )
    node = Node(source, 0, len(view), 1)
    if node.end != len(view) and not trailing:
        raise malformed("trailing-data")
    return node


@lru_cache(maxsize=1024)
def _dotted(content: bytes) -> str:
    if not 0 < len(content) <= 64 or content[-1] & 0x80:
        raise malformed("oid")
    numbers: list[int] = []
    number = 0
    for octet in content:
        if number == 0 and octet == 0x80:
            raise malformed("oid")
        number = number << 7 | octet & 0x7F
        if not octet & 0x80:
            numbers.append(number)
            number = 0
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, (first, numbers[0] - 40 * first, *numbers[1:])))


_TIME = re.compile(rb"(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)?(?:[.,](\d{1,9}))?(?:Z|([+-])(\d\d)(\d\d))")


def _time(text: bytes, *, two_digit_year: bool) -> dt.datetime:
    century = b""
    if not two_digit_year:
        century, text = text[:2], text[2:]
    match = _TIME.fullmatch(text[2:])
    year = century + text[:2]
    if not match or not year.isdigit():
        raise malformed("time")
    month, day, hour, minute, second, fraction, sign, hours, minutes = match.groups()
    number = int(year)
    if two_digit_year:
        number += 1900 if number >= 50 else 2000
    try:
        value = dt.datetime(
            number, int(month), int(day), int(hour), int(minute), int(second or 0),
            int(((fraction or b"") + b"000000")[:6]), dt.UTC,
        )  # fmt: skip
        if sign:
            if not (hours < b"24" and minutes < b"60"):
                raise malformed("time")
            offset = dt.timedelta(hours=int(hours), minutes=int(minutes))
            value += -offset if sign == b"+" else offset
    except (ValueError, OverflowError):
        raise malformed("time") from None
    return value
