"""A roster's octets as text and rows: any usual encoding and separator, each row with the line it begins on.

What programs write without saying so is told apart by what it would make of people's names. A row that
cannot be read takes none of the others with it.
"""

import codecs
import csv
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from medmail_cli.errors import MedmailError

SEPARATORS = ",;\t|"
_SINGLE = ("cp1252", "iso8859-15", "mac-roman", "cp850")
"""Encodings of one octet a letter, the likeliest first: Windows, Unix, Excel on a Mac, Excel's MS-DOS."""
_SMALL, _CAPITAL = "ß-öø-ÿœšž", "À-ÖØ-ÞŒŠŽŸ"
_LETTER = f"A-Za-z{_SMALL}{_CAPITAL}"
_MISREAD = re.compile(
    rf"(?<=[{_LETTER}])[^\0-\x7f{_LETTER}\u2018\u2019\u201d\u2013\u2014\u2026\xa0\xad·°ªº»®™©]"
    rf"|[^\0-\x7f{_LETTER}\u2018\u2019\u201c\u201e\u2013\u2014\xa0·«](?=[{_LETTER}])"
    rf"|(?<=[a-z])[{_CAPITAL}]|(?<=[A-Z])[{_CAPITAL}](?=[a-z])|(?<=[A-Z])[{_SMALL}](?=[A-Z])"
)
"""What stands beside a letter in no name: a sign, a capital after a small letter, a small one in capitals."""
_FOREIGN = re.compile(rf"(?![àâçèéêëîïôùûüœÀÂÇÈÉÊËÎÏÔÙÛÜŒ])[{_SMALL}{_CAPITAL}]")
"""Letters that are rare in French, between readings that are equally likely otherwise."""
_NO_TEXT = re.compile(r"[\0-\x08\x0e-\x1f\x7f\ud800-\udbff\uffff]")
_MOST_OF_NO_TEXT = 20
"""One letter in so many that no text holds, at most; compressed or other binary octets hold one in nine."""
_MOST_LINES = 100
"""Of one row; a quotation mark left open takes no more of the file than that."""


@dataclass(frozen=True)
class Row:
    """A row that is not blank: the line it begins on, its fields, and what keeps it from being read."""

    line: int
    cells: tuple[str, ...]
    broken: str | None = None


def decoded(data: bytes, path: str) -> str:
    """The octets as text; those that are not of the file's own encoding are left as lone surrogates.

    Octets that no text holds are left too, where they are few: one row's fault. Raises ``not-text``.
    """
    text = _unicode(data)
    if text is None:
        text = min(filter(None, (_read(data, name) for name in _SINGLE)), key=_oddness, default="\0")
    if len(_NO_TEXT.findall(text)) * _MOST_OF_NO_TEXT > len(text):
        raise MedmailError("not-text", path=path)
    return text


def _unicode(data: bytes) -> str | None:
    """The text where it is Unicode, by its mark or by itself; None where it must be something else."""
    if data[:4] in (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE):
        return _marked(data, "utf-32")
    if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return _marked(data, "utf-16")
    if 0 in data[:2] and (unmarked := _read(data, "utf-16-be" if data[0] == 0 else "utf-16-le")):
        return unmarked
    text = data.decode("utf-8-sig", "surrogateescape")
    wrong = len(re.findall(r"[\udc80-\udcff]", text))
    # a few octets that slipped into a file of UTF-8 are their rows' fault, and no reason to misread the rest
    if wrong and (data.startswith(codecs.BOM_UTF8) or wrong <= len(re.findall(r"[^\0-\x7f]", text)) - wrong):
        return text
    return None if wrong else text


def _marked(data: bytes, encoding: str) -> str:
    text = _read(data, encoding, "surrogatepass")  # half a letter is its row's fault
    return "\0" if text is None else text


def _oddness(text: str) -> tuple[int, int]:
    """How little a reading looks like people's names."""
    return sum(1 for _ in _MISREAD.finditer(text)), sum(1 for _ in _FOREIGN.finditer(text))


def _read(data: bytes, encoding: str, errors: str = "strict") -> str | None:
    try:
        return data.decode(encoding, errors)
    except UnicodeDecodeError:
        return None


def rows(text: str, worth: Callable[[list[str]], tuple[int, int]]) -> Iterator[Row]:
    """Every row, the header first, under the separator whose reading of the header is worth most.

    Excel's ``sep=;`` before the header is heeded. Lines count from 1, those within quotation marks too.
    """
    lines = re.findall(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+\Z", text)
    begun = next((number for number, line in enumerate(lines) if line.strip()), len(lines))
    if begun == len(lines):
        return
    if declared := re.fullmatch(r'"?sep=([,;\t|])"?\s*', lines[begun], re.IGNORECASE):
        separator, begun = declared.group(1), begun + 1
    else:
        header = lines[begun : begun + 10]
        separator = max(SEPARATORS, key=lambda candidate: worth(_first(header, candidate)))
    at = begun

    def fed() -> Iterator[str]:
        for number in range(begun, len(lines)):
            if number > at + _MOST_LINES:
                raise csv.Error
            yield lines[number]

    reader = csv.reader(fed(), delimiter=separator, strict=True)
    while True:
        at = begun + reader.line_num
        try:
            cells = tuple(cell.strip() for cell in next(reader))
        except StopIteration:
            return
        except csv.Error as error:
            # a quotation mark left open would swallow what follows: the row ends with its first line
            yield Row(at + 1, (), "too-long" if "limit" in str(error) else "bad-quoting")
            begun = at + 1
            reader = csv.reader(fed(), delimiter=separator, strict=True)
            continue
        if any(cells):
            yield Row(at + 1, cells)


def _first(lines: list[str], separator: str) -> list[str]:
    """The first row of some lines, as far as it can be read."""
    try:
        return next(csv.reader(lines, delimiter=separator), [])
    except csv.Error:
        return []
