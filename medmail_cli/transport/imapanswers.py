"""What an IMAP server means by a refusal (RFC 3501 §7.1, RFC 5530): will it pass, and whose matter is it?

Many servers give no response code, or none that says so; then their words are read.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from medmail_cli.errors import MedmailError
from medmail_cli.transport.imapwire import Literal, Response, Value

if TYPE_CHECKING:
    from medmail_cli.transport.mailserver import Sink, TooLarge

_LATER = {"UNAVAILABLE", "INUSE", "LIMIT", "SERVERBUG", "THROTTLED", "OVERQUOTA"}
_FINAL = {
    "ALREADYEXISTS", "AUTHENTICATIONFAILED", "AUTHORIZATIONFAILED", "BADCHARSET", "CANNOT", "CLIENTBUG",
    "CONTACTADMIN", "CORRUPTION", "EXPIRED", "HASCHILDREN", "NONEXISTENT", "NOPERM", "PRIVACYREQUIRED",
    "TRYCREATE",
}  # fmt: skip
# compiled where a server refuses something
_LATER_WORDS = (
    r"\b(?:too many|max\w*|number of|limit)\b.{0,40}"
    r"\b(?:connections?|sessions?|requests?|commands?|clients?|users)\b"
    r"|\b(?:connections?|sessions?|rate|bandwidth|request|command)\b.{0,20}\b(?:limit\w*|exceeded)\b"
    r"|(?<!reason )unavailable|not available|temporar|\blater\b|throttl|\bbusy\b|overload|\bin use\b"
    r"|maintenance|shutting down|internal\b.{0,20}\berror|system error|timed[ -]?out|\btimeout\b"
    r"|not connected"
)
_LOGIN_WORDS = r"fail|incorrect|wrong|denied|password|credential|authentication"
_MESSAGE_NEXT = re.compile(rb"(?:BODY(?:\.PEEK)?\[\]|RFC822) *\Z", re.IGNORECASE)
_UID = re.compile(rb"\bUID +(\d{1,10})\b", re.IGNORECASE)
_NO_SUCH_WORDS = re.compile(
    r"(?:not|un)[ -]?(?:support|implement|enabl|allow|recogni[sz]|known)|disabled|no such|mechanism",
    re.IGNORECASE,
)


def will_pass(code: str, words: str) -> bool:
    """Does a refusal say that the same may be had later?"""
    name = code.partition(" ")[0].upper()
    return name in _LATER or (
        name not in _FINAL and re.search(_LATER_WORDS, words, re.IGNORECASE) is not None
    )


def is_final(code: str) -> bool:
    """Does a response code say that asking again is of no use?"""
    return code.partition(" ")[0].upper() in _FINAL


def speaks_of_login(words: str) -> bool:
    """Are these words about who logs in, rather than about the server?"""
    return re.search(_LOGIN_WORDS, words, re.IGNORECASE) is not None


def knows_no_such(end: Response) -> bool:
    """Does a refusal say that there is no such way to log in, so that another may be tried?

    BAD does (§7.1.3), unless it says that somebody was refused; NO only in as many words.
    """
    if end.code.partition(" ")[0].upper() in _LATER | _FINAL - {"CANNOT", "CLIENTBUG"}:
        return False
    if end.word == b"BAD":
        return not speaks_of_login(end.said) and not will_pass(end.code, end.said)
    return says_no_such(end.said)


def says_no_such(words: str) -> bool:
    """Do these words say that there is no such way to log in?"""
    return _NO_SUCH_WORDS.search(words) is not None


def words_of(response: Response, report: str = "") -> str:
    """What a refusal says to people: its words, or its code, with what an error report adds."""
    said = response.said or response.code or response.word.decode("ascii", "replace")
    return f"{said} ({report})" if report else said


def refusal(host: str, end: Response) -> MedmailError:
    """What a tagged NO or BAD, or a BYE, comes to: ``server-busy`` or ``server-refused``."""
    words = words_of(end)
    if end.word == b"BYE" or will_pass(end.code, end.said):
        return MedmailError("server-busy", host=host, reply=words, code=end.code.upper())
    return MedmailError("server-refused", host=host, reply=words, code=end.code.upper())


def login_refusal(host: str, login: str, end: Response, report: str = "") -> MedmailError:
    """What a refusal comes to once the password or token has been said.

    ``server-busy`` where it will pass, ``login-expired`` for EXPIRED, else ``login-refused``: whatever else
    a server says then, it has looked at who asks.
    """
    if will_pass(end.code, end.said):
        return refusal(host, end)
    words = words_of(end, report)
    name = end.code.partition(" ")[0].upper()
    if name in ("CONTACTADMIN", "PRIVACYREQUIRED", "AUTHORIZATIONFAILED") and name not in words:
        words = f"[{name}] {words}"
    return MedmailError(
        "login-expired" if name == "EXPIRED" else "login-refused", host=host, login=login, reply=words
    )


def announced(text: bytes) -> tuple[bool, int | None]:
    """Whether a literal after ``text`` of a FETCH response is a message; its UID where that came first."""
    named = _UID.search(text)
    return _MESSAGE_NEXT.search(text) is not None, int(named[1]) if named else None


def fetched(response: Response) -> tuple[int | None, Literal | None]:
    """UID and message of a FETCH response, each None where it carries none. Raises ValueError.

    RFC822 is the older name of BODY[] (RFC 3501 §6.4.5).
    """
    uid: int | None = None
    body: Literal | None = None
    for name, value in _items(response):
        if name == b"UID" and isinstance(value, bytes):
            uid = int(value)
        elif name in (b"BODY[]", b"RFC822", b"BODY.PEEK[]") and not isinstance(value, list | None):
            body = value
    return uid, body


def message_id(response: Response) -> dict[int, str]:
    """UID and Message-ID, without blanks, of a FETCH response that tells of both. Raises ValueError."""
    from medmail_cli.smime.outer import outer  # not loaded where nothing is new

    uid, said = 0, ""
    for name, value in _items(response):
        if name == b"UID" and isinstance(value, bytes):
            uid = int(value)
        elif name.startswith(b"BODY[HEADER.FIELDS") and isinstance(value, bytes):
            said = "".join(outer(value).message_id.split())
    return {uid: said} if uid and said else {}


def _items(response: Response) -> "list[tuple[bytes, Value | TooLarge | Sink]]":
    """The items of a FETCH response, names in upper case; none of any other response. Raises ValueError."""
    if response.number(b"FETCH") is None:
        return []
    values = response.values()
    items = values[2] if len(values) > 2 else None
    if not isinstance(items, list):
        raise ValueError("FETCH")  # noqa: TRY004 - one exception for whatever is malformed
    pairs: list[tuple[bytes, Value | TooLarge | Sink]] = []
    for name, value in zip(items[::2], items[1::2], strict=False):
        if not isinstance(name, bytes):
            raise ValueError("FETCH")  # noqa: TRY004 - one exception for whatever is malformed
        pairs.append((name.upper(), value))
    return pairs


def numbers(response: Response) -> Sequence[int]:
    """The numbers of a SEARCH response (RFC 3501 §7.2.5); what CONDSTORE adds is passed over."""
    text = re.sub(rb"\(MODSEQ \d+\)\s*\Z", b"", response.text, flags=re.IGNORECASE)
    return [int(word) for word in text.split()[1:]]


def extended(response: Response) -> set[int]:
    """The UIDs that an ESEARCH response names (RFC 4731 §3.1). Raises ValueError for too many."""
    uids: set[int] = set()
    if (named := re.search(rb"\bALL ([\d:,]+)", response.text, re.IGNORECASE)) is None:
        return uids
    for run in named[1].split(b","):
        low, _, high = run.partition(b":")
        first, last = sorted((int(low), int(high or low)))
        if last - first + len(uids) > 2_000_000:
            raise ValueError("ESEARCH")
        uids.update(range(first, last + 1))
    return uids
