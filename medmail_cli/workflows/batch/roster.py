"""Rosters: CSV files of the professionals to enrol, read and checked whole before the first request.

Any usual encoding and separator; columns are found by their names, in any order, those of the French
Annuaire Santé's extraction among them. Nothing is guessed about a row that is not right: it is a fault, with
its line.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

from medmail_cli.codes import FAILED
from medmail_cli.errors import MedmailError
from medmail_cli.pki.x509.address import ascii_domain, canonical
from medmail_cli.workflows.batch.roster_csv import decoded, rows

LONGEST_NAME = 64
"""Characters of a common name or organisation (RFC 5280 appendix A)."""
_LOCAL = re.compile(r"[\w!#$%&'*+/=?^`{|}~-]+(?:\.[\w!#$%&'*+/=?^`{|}~-]+)*")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
LARGEST = 256 << 20
"""Octets: more than every professional of a large country."""

_OWN = ("address", "name", "rpps", "profession", "organisation", "group", "role")
"""The columns' names that are promised."""
_COLUMNS = {
    "address": (
        *(
            "address",
            "adressebal",
            "adressemssante",
            "mssante",
            "adressemail",
            "adresseemail",
            "adressecourriel",
        ),
        *("email", "mail", "courriel", "emailaddress", "mailaddress"),
    ),
    "name": ("name", "nomcomplet", "nometprenom", "prenometnom", "fullname", "displayname"),
    "surname": (
        *(
            "nomdexercice",
            "nom",
            "nomdusage",
            "nomusuel",
            "nomdefamille",
            "lastname",
            "surname",
            "familyname",
        ),
        "nomdenaissance",
    ),
    "given_name": (
        "prenomdexercice",
        "prenom",
        "prenoms",
        "prenomusuel",
        "firstname",
        "givenname",
        "forename",
    ),
    "rpps": (
        *("rpps", "identifiantpp", "nrpps", "norpps", "numerorpps", "numerorppsadeli", "idrpps", "coderpps"),
        *("identifiantrpps", "numrpps", "rppsnumber"),
    ),
    "kind": ("typedidentifiantpp",),
    "profession": ("profession", "libelleprofession", "metier", "occupation"),
    "organisation": (
        *(
            "organisation",
            "raisonsocialestructurebal",
            "organization",
            "etablissement",
            "structure",
            "employeur",
        ),
        "raisonsociale",
    ),
    "group": ("group", "groupe"),
    "role": ("role", "libellesavoirfaire", "savoirfaire", "specialite", "fonction"),
}
"""What is read → its columns' names, the surest first, without case, accents, blanks and punctuation."""
_SPREADSHEETS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")
"""How .xlsx and .ods, and how .xls begin."""
_RPPS = "8"
"""The type of identifier that is an RPPS, as which it begins the national identifier; ADELI is another."""


@dataclass(frozen=True)
class Professional:
    """One row: somebody to be enrolled; empty where the roster does not say. Lines count from 1.

    ``others`` holds the columns that mean nothing to us, for the report.
    """

    line: int
    address: str
    name: str = ""
    rpps: str = ""
    profession: str = ""
    organisation: str = ""
    group: str = ""
    role: str = ""
    others: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Fault:
    """What is wrong with a row; ``column`` is the column's name in the file, None for the row itself."""

    type: ClassVar[str] = "fault"
    line: int
    column: str | None
    reason: str
    detail: str | None = None
    exit: int = FAILED


@dataclass(frozen=True)
class Columns:
    """How a roster's header is understood: what is read, each from which columns, and what is only kept."""

    type: ClassVar[str] = "columns"
    read: Mapping[str, tuple[str, ...]]
    kept: tuple[str, ...]


class Roster(NamedTuple):
    """What stands in a file: every row that is right, and every fault, both in the file's order.

    ``columns`` is None where the header has the promised names alone.
    """

    rows: tuple[Professional, ...] = ()
    faults: tuple[Fault, ...] = ()
    columns: Columns | None = None


def read_roster(data: bytes, path: str) -> Roster:
    """All that stands in ``data``.

    Raises ``spreadsheet``, ``not-text`` for what is no text, ``too-large``.
    """
    if len(data) > LARGEST:
        raise MedmailError("too-large", what=path, size=len(data), limit=LARGEST)
    if data.startswith(_SPREADSHEETS):
        raise MedmailError("spreadsheet", path=path)
    read = rows(decoded(data, path), lambda cells: (len(_places(cells)), len(cells)))
    first = next(read, None)
    if first is None:
        return Roster(faults=(Fault(1, "address", "column-missing"),))
    if reason := first.broken or next(filter(None, map(_garbled, first.cells)), None):
        return Roster(faults=(Fault(first.line, None, reason),))
    header = _named(first.cells)
    places = _places(header)
    faults = [Fault(first.line, name, "column-twice") for name in _twice(first.cells)]
    if "address" not in places:
        faults.append(Fault(first.line, "address", "column-missing"))
    columns = _columns(header, places)
    if faults:
        return Roster(faults=tuple(faults), columns=columns)
    people: list[Professional] = []
    seen: dict[str, int] = {}
    for line, cells, broken in ((row.line, row.cells, row.broken) for row in read):
        # Excel leaves out what is empty at the end of a row, or writes more of it
        if broken is None and any(cells[len(header) :]):
            broken = "too-many-fields"
        cells = (*cells, *[""] * (len(header) - len(cells)))[: len(header)]
        if broken is not None:
            faults.append(Fault(line, None, broken))
            continue
        if garbled := [
            Fault(line, header[at], reason) for at, cell in enumerate(cells) if (reason := _garbled(cell))
        ]:
            faults += garbled
            continue
        row = _professional(line, header, places, cells)
        wrong = list(_faults(row, header, places))
        if deliverable(row.address):
            earlier = seen.setdefault(canonical(row.address), line)
            if earlier != line:
                wrong.append(Fault(line, header[places["address"]], "duplicate-address", str(earlier)))
        faults += wrong
        if not wrong:
            people.append(row)
    return Roster(tuple(people), tuple(faults), columns)


def deliverable(address: str) -> bool:
    """Whether mail from elsewhere could reach the address: a dot-atom at a domain of two labels or more.

    RFC 5321 §4.1.2 and §4.5.3.1, RFC 6531 for letters beyond ASCII; quoted local parts are nobody's.
    """
    local, at, domain = address.rpartition("@")
    labels = ascii_domain(domain).split(".")
    fits = len(local.encode()) <= 64 and len(address.encode()) <= 254 and len(labels) > 1
    return bool(at and fits and _LOCAL.fullmatch(local) and all(map(_LABEL.fullmatch, labels)))


def luhn(digits: str) -> bool:
    """Whether the last of some decimal digits is the Luhn key of the others (ISO/IEC 7812-1)."""
    total = 0
    for position, digit in enumerate(reversed(digits)):
        number = int(digit) * (1 + position % 2)
        total += number - 9 * (number > 9)
    return total % 10 == 0


def _garbled(text: str) -> str | None:
    """What in a cell is no text at all."""
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        return "bad-encoding"
    return "control-character" if "\0" in text else None


def _named(header: Sequence[str]) -> list[str]:
    """The columns' names, none of them empty and each once."""
    names: list[str] = []
    for at, name in enumerate(header, 1):
        plain = name or f"({at})"
        names.append(plain if plain not in names else f"{plain} ({at})")
    return names


def _places(header: Sequence[str]) -> dict[str, int]:
    """Where each column that we know stands; our own names before others."""
    plain = [_plain(name) for name in header]
    return {
        meaning: plain.index(name)
        for meaning, names in _COLUMNS.items()
        for name in reversed(names)
        if name in plain
    }


def _columns(header: Sequence[str], places: Mapping[str, int]) -> Columns | None:
    """How the header is understood, where that does not go without saying."""
    if all(_plain(name) in _OWN for name in header):
        return None
    read: dict[str, tuple[str, ...]] = {}
    for meaning, at in places.items():
        name = "name" if meaning in ("surname", "given_name") else meaning
        if meaning != "kind":
            read[name] = (*read.get(name, ()), header[at])
    used = {name for names in read.values() for name in names}
    return Columns(read, tuple(name for name in header if name not in used))


def _plain(name: str) -> str:
    letters = unicodedata.normalize("NFD", name.casefold())
    return "".join(c for c in letters if c.isalnum())


def _twice(header: Sequence[str]) -> list[str]:
    known = {name for names in _COLUMNS.values() for name in names}
    plain = [_plain(name) for name in header]
    return [header[at] for at, name in enumerate(plain) if name in known and name in plain[:at]]


def _professional(
    line: int, header: Sequence[str], places: Mapping[str, int], cells: Sequence[str]
) -> Professional:
    value = {meaning: cells[at] for meaning, at in places.items()}
    surname, given = value.pop("surname", ""), value.pop("given_name", "")
    name = value.pop("name", "") or f"{given} {surname}".strip()
    # digits in groups are the same number; what a spreadsheet made of one (1000123468.0) is none
    rpps = value.pop("rpps", "")
    if digits := re.fullmatch(rf"{_RPPS}?([0-9]{{11}})", re.sub(r"\s", "", rpps)):
        rpps = digits[1]
    read = {at for meaning, at in places.items() if meaning != "kind"}
    if value.pop("kind", "") not in ("", _RPPS):
        rpps, read = "", read - {places.get("rpps")}
    others = {key: cells[at] for at, key in enumerate(header) if at not in read}
    return Professional(line, name=name, rpps=rpps, others=others, **value)


def cell(row: Professional, column: str) -> str:
    """What a row has in a column, by any of the column's names; empty where there is no such column."""
    plain = _plain(column)
    for meaning, names in _COLUMNS.items():
        if plain in names and hasattr(row, meaning):
            return str(getattr(row, meaning))
    return next((value for name, value in row.others.items() if _plain(name) == plain), "")


def _faults(row: Professional, header: Sequence[str], places: Mapping[str, int]) -> Iterator[Fault]:
    def column(*meanings: str) -> str | None:
        return next((header[places[each]] for each in meanings if each in places), None)

    if not row.address:
        yield Fault(row.line, column("address"), "no-address")
    elif not deliverable(row.address):
        yield Fault(row.line, column("address"), "bad-address", row.address)
    if row.rpps and not re.fullmatch(r"[0-9]{11}", row.rpps):
        yield Fault(row.line, column("rpps"), "bad-rpps", row.rpps)
    elif row.rpps and not luhn(row.rpps):
        yield Fault(row.line, column("rpps"), "rpps-key", row.rpps)
    if len(row.name) > LONGEST_NAME:
        yield Fault(row.line, column("name", "surname"), "too-long")
    if len(row.organisation) > LONGEST_NAME:
        yield Fault(row.line, column("organisation"), "too-long")
    for meaning in ("name", "organisation", "profession", "group", "role"):
        if not getattr(row, meaning).isprintable():
            yield Fault(row.line, column(meaning, "surname"), "control-character")
