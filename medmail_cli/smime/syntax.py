"""Small grammars of header fields: comments, dates and message identifiers (RFC 5322 §3.2.2, §3.3, §3.6.4).

As :mod:`fields`, nothing here raises and everything is linear in what it reads.
"""

import re
from datetime import UTC, datetime, timedelta, timezone

_PIECE = re.compile(r'"(?:[^"\\]|\\.)*+"?|<[^<>]*+>|\\.?|[()]|[^"<\\()]+|<', re.DOTALL)
_INSIDE = re.compile(r"\\.?|[()]|[^\\()]+", re.DOTALL)
_ID = re.compile(r"<([^<>]{1,998})>")
_LONGEST_DATE = 200
_DATE = re.compile(
    r"(?:[^\W\d_]{2,12}\.?,? ?)?(\d{1,2})[ -]([A-Za-z]{3})[a-z]*\.?,?[ -](\d{2,4}),? "
    r"(\d{1,2}) ?[:.] ?(\d{2})(?: ?[:.] ?(\d{2})(?:[.,]\d{1,9})?)? ?(?:([AaPp])\.?[Mm]\b\.?)? ?(.*)\Z"
)
_ISO_DATE = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:[.,]\d{1,9})? ?(Z|[+-]\d\d:?\d\d)\Z")
_OFFSET = re.compile(
    r"(?:(?:UTC|GMT|UT|Z) ?)?([+-]) ?(\d{1,2})(?::?(\d{2}))?(?: [A-Za-z][A-Za-z ]*)?\Z", re.IGNORECASE
)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_ZONES = {
    "UT": 0,
    "UTC": 0,
    "GMT": 0,
    "Z": 0,
    "WET": 0,
    "WEST": 1,
    "EET": 2,
    "EEST": 3,
    "MSK": 3,
    "CET": 1,
    "MET": 1,
    "MEZ": 1,
    "CEST": 2,
    "MEST": 2,
    "MESZ": 2,
    "EST": -5,
    "EDT": -4,
    "CST": -6,
    "CDT": -5,
    "MST": -7,
    "MDT": -6,
    "PST": -8,
    "PDT": -7,
}
"""Hours; those of RFC 5322 §4.3 and of Europe. Names that mean several zones (BST, IST) mean none."""


def without_comments(value: str) -> str:
    """A structured value without its comments, nested ones too.

    A bracket opens one only where a word begins, and only if it closes where one ends: ``r(1).pdf`` has
    none. Quoted strings and what stands in angle brackets are left alone.
    """
    if "(" not in value:
        return value
    out: list[str] = []
    position = 0
    while match := _PIECE.match(value, position):
        position = match.end()
        if match[0] != "(" or (match.start() and value[match.start() - 1] not in ' \t\r\n;,=>"'):
            out.append(match[0])
            continue
        end = _comment_end(value, position)
        if end is None:
            out.append(value[match.start() :])
            break
        closed = end == len(value) or value[end] in " \t\r\n;,<("
        out.append(" " if closed else value[match.start() : end])
        position = end
    return "".join(out)


def _comment_end(value: str, position: int) -> int | None:
    depth = 1
    while match := _INSIDE.match(value, position):
        position = match.end()
        depth += {"(": 1, ")": -1}.get(match[0], 0)
        if not depth:
            return position
    return None


def parse_ids(value: str) -> tuple[str, ...]:
    """The message identifiers of a field, each in its angle brackets, comments and phrases passed over.

    Where none has brackets, words that look like one all the same, as they stand.
    """
    value = without_comments(value)
    identifiers = tuple(
        f"<{identifier}>" for match in _ID.finditer(value) if (identifier := _closed_up(match[1]))
    )
    return identifiers or tuple(word for word in value.split() if "@" in word.strip("@"))


def _closed_up(text: str) -> str:
    return text.strip() if '"' in text else "".join(text.split())


def parse_date(value: str) -> datetime | None:
    """A Date field (RFC 5322 §3.3 and §4.3, common other zones and ISO 8601 too) as an aware UTC time.

    None where it is none or leaves the zone open: a time that may be hours off is worse than no time.
    """
    if len(value) > 10 * _LONGEST_DATE:
        return None
    text = " ".join(without_comments(value).split())[:_LONGEST_DATE]
    try:
        if iso := _ISO_DATE.match(text):
            return datetime.fromisoformat(f"{iso[1]}T{iso[2]}{iso[3]}").astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    match = _DATE.match(text)
    if not match or match[2].lower() not in _MONTHS:
        return None
    offset, hour, half = _offset(match[8]), int(match[4]), (match[7] or "").lower()
    if offset is None or (half and not hour) or (half == "a" and hour > 12):
        return None
    if half and hour <= 12:
        hour = hour % 12 + (12 if half == "p" else 0)
    minute, second = int(match[5]), int(match[6] or 0)
    midnight = hour == 24 and not minute and not second
    year = int(match[3])
    if len(match[3]) < 4:
        year += 2000 if len(match[3]) == 2 and year < 50 else 1900
    if second > 60:
        return None
    try:
        moment = datetime(
            year,
            _MONTHS.index(match[2].lower()) + 1,
            int(match[1]),
            0 if midnight else hour,
            minute,
            min(second, 59),  # leap seconds
            tzinfo=timezone(offset),
        )
        return moment.astimezone(UTC) + timedelta(days=midnight)
    except (ValueError, OverflowError):
        return None


def _offset(zone: str) -> timedelta | None:
    match = _OFFSET.match(zone)
    if match is None:
        hours = _ZONES.get(zone.upper())
        return None if hours is None else timedelta(hours=hours)
    hours, minutes = int(match[2]), int(match[3] or 0)
    if hours > 23 or minutes > 59:
        return None
    return timedelta(hours=hours, minutes=minutes) * (-1 if match[1] == "-" else 1)
