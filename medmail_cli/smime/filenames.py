"""Names for the files of a letter, made from names that strangers chose.

A name never leaves its folder, hides, holds a control character or stands for two files.
"""

import re
import unicodedata
from collections.abc import Iterable

LONGEST = 180
"""Octets of UTF-8; file systems allow 255, and a temporary name is a little longer."""

_UNSAFE = re.compile(
    '[\x00-\x1f\x7f-\x9f<>:"|?*\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff]'
)
_PATH = re.compile(r"[A-Za-z]:[/\\]|[/\\~]|\.{1,2}[/\\]")
"""From a root, a home or a folder: with a drive's letter, a slash, a tilde or dots first."""
_DEVICE = re.compile(r"(?i)(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?")
"""What Windows takes for a device, should the folder be shared with it."""
_EXTENSIONS = {
    "application/pdf": ".pdf",
    "application/zip": ".zip",
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "message/rfc822": ".eml",
    "text/calendar": ".ics",
    "text/csv": ".csv",
    "text/html": ".html",
    "text/plain": ".txt",
    "text/xml": ".xml",
    "application/xml": ".xml",
}


def safe_name(name: str, media_type: str = "") -> str:
    """A plain file name for a received one; ``attachment`` with a fitting extension where nothing is left."""
    # of a path the last name counts; in a date or a fraction a slash is a sign like others
    named = re.split(r"[/\\]", name)[-1] if _PATH.match(name) else re.sub(r"[/\\]", "_", name)
    name = unicodedata.normalize("NFC", named)
    # a name that begins with a dot hides, one with a dash reads as an option, one with a tilde as a home
    name = _UNSAFE.sub("_", name).strip().lstrip(".-~").rstrip(". ")
    if _DEVICE.fullmatch(name):
        name = f"_{name}"
    if not name:
        return "attachment" + _EXTENSIONS.get(media_type, "")
    stem, dot, extension = name.rpartition(".")
    if not dot or len(extension) > 16 or not stem:
        stem, extension = name, ""
    else:
        extension = "." + extension
    return _cut(stem, LONGEST - len(extension.encode())) + extension


def distinct(names: Iterable[str], taken: Iterable[str] = ()) -> list[str]:
    """The names with ``-2``, ``-3`` … put in where one repeats, letter case not counted (macOS)."""
    used = {name.casefold() for name in taken}
    following: dict[str, int] = {}
    out: list[str] = []
    for name in names:
        chosen = name
        while chosen.casefold() in used:
            number = following.get(name.casefold(), 2)
            following[name.casefold()] = number + 1
            stem, dot, extension = name.rpartition(".")
            chosen = f"{stem}-{number}.{extension}" if dot and stem else f"{name}-{number}"
        used.add(chosen.casefold())
        out.append(chosen)
    return out


def _cut(text: str, octets: int) -> str:
    return text.encode("utf-8")[:octets].decode("utf-8", "ignore")
