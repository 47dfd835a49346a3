"""Character sets as letters name them, and as the letters then are: WHATWG's Encoding standard, section 4.2.

Programs write what a larger set holds under the name of a smaller one (Windows-1252 as ISO-8859-1, GB 18030
as GB 2312), and names that no registry knows. What cannot be read shows as the replacement character; nothing
raises.
"""

import codecs
import re
from functools import lru_cache

_LARGER = {
    "iso8859-1": "cp1252", "iso8859-9": "cp1254", "iso8859-11": "cp874", "tis-620": "cp874",
    "gb2312": "gb18030", "gbk": "gb18030", "euc_kr": "cp949", "shift_jis": "cp932", "big5": "big5hkscs",
    "iso2022_jp": "iso2022_jp_ext", "koi8-r": "koi8-u",
}  # fmt: skip
"""Python's name of a set to that of the larger one which is sent under its name."""
_LABELS = {
    "unicode-1-1-utf-8": "utf-8", "unicode11utf8": "utf-8", "x-unicode20utf8": "utf-8", "utf8mb4": "utf-8",
    "utf-8-mac": "utf-8", "wtf-8": "utf-8",
    "unicode": "utf-16-le", "ucs-2": "utf-16-le", "csunicode": "utf-16-le", "unicodefeff": "utf-16-le",
    "iso-10646-ucs-2": "utf-16-le", "unicodefffe": "utf-16-be",
    "latin-1": "cp1252", "latin-9": "iso8859-15", "ansi": "cp1252", "x-ansi": "cp1252",
    "iso-8859-8-i": "iso8859-8", "iso-8859-8-e": "iso8859-8", "logical": "iso8859-8", "visual": "iso8859-8",
    "iso-8859-6-i": "iso8859-6", "iso-8859-6-e": "iso8859-6",
    "ks-c-5601-1987": "cp949", "ks-c-5601-1989": "cp949", "ksc-5601": "cp949", "korean": "cp949",
    "windows-31j": "cp932", "x-sjis": "cp932", "ms-kanji": "cp932", "x-ms-cp932": "cp932",
    "x-euc-jp": "euc_jp", "x-gbk": "gb18030", "x-euc-cn": "gb18030", "chinese": "gb18030",
    "csgb2312": "gb18030",
    "x-x-big5": "big5hkscs", "cn-big5": "big5hkscs", "cn-gb": "gb18030",
    "koi": "koi8-u", "koi8": "koi8-u", "koi8-ru": "koi8-u",
    "macintosh": "mac-roman", "x-macintosh": "mac-roman", "mac": "mac-roman", "x-mac-ce": "mac-latin2",
    "x-mac-ukrainian": "mac-cyrillic",
}  # fmt: skip
"""Labels that Python has no codec for, or another one."""
_PAGE = re.compile(r"(?:x-)?(?:cp|ibm|windows|win|ms|dos|microsoft-cp|oem)-?0*(\d{3,5})")
_MAC = re.compile(r"x-mac-([a-z]+)")
_ENDIAN = {"utf-16": ("utf-16-le", "utf-16-be", 2), "utf-32": ("utf-32-le", "utf-32-be", 4)}
# decoders that are slow on purpose-made input, or no character sets at all
_NOT_CHARSETS = {"idna", "punycode", "unicode-escape", "raw-unicode-escape", "undefined", "mbcs", "oem"}
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_HALVES = re.compile("[\ud800-\udfff]")
_DECLARED = re.compile(
    rb"""<meta\b[^>]{0,200}?\bcharset\s*=\s*["']?\s*([\w.:()-]{1,40})|<\?xml\b[^>]{0,100}?\bencoding\s*=\s*["']([\w.-]{1,40})""",
    re.IGNORECASE,
)
_LOOKED_AT = 2048
"""Octets of an HTML text in which its character set is looked for."""
_DOUBLE = re.compile(rb"\x1b\$[@B]([^\x1b]*)(?:\x1b\([BJI])?|\x1b\([BJ]")


def decode(data: bytes, label: str) -> str:
    """``data`` as text, by the name of its character set that a stranger gave.

    A mark at its beginning counts more than the name. Where the name is unknown or empty it is UTF-8, else
    Windows-1252, the octets that mean nothing there left as they are.
    """
    for mark, unicode in _MARKS:
        if data.startswith(mark):
            return _read(data[len(mark) :], unicode)
    name = _codec(label[:64])
    if name in _ENDIAN:
        name = _byte_order(data, *_ENDIAN[name])
    if name == "ascii" or not name:
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            name = "cp1252"
    if name == "iso8859-15":  # its euro sign is where Windows has another, its quotes are Windows'
        return _read(data, name).translate(_C1)
    return windows_1252(data) if name == "cp1252" else _read(data, name)


def windows_1252(data: bytes) -> str:
    """Octets of Windows-1252; the five that it leaves out are controls, as WHATWG has it."""
    try:
        return data.decode("cp1252")
    except UnicodeDecodeError:
        return data.decode("latin-1").translate(_C1)


_C1 = {octet: bytes([octet]).decode("cp1252", "ignore") or chr(octet) for octet in range(0x80, 0xA0)}


def declared(html: bytes) -> str:
    """The character set that an HTML text names at its beginning, "" where it names none."""
    label = _DECLARED.search(html[:_LOOKED_AT])
    name = (label[1] or label[2] or b"").decode("ascii", "ignore") if label else ""
    # what could be read as ASCII so far is neither of these, whatever it says (HTML 13.2.3.2)
    return "utf-8" if name.lower().startswith(("utf-16", "utf-32", "unicode")) else name


@lru_cache(maxsize=256)
def _codec(label: str) -> str:
    """The codec that reads what comes under a label, ``ascii`` for what says so; "" for an unknown one."""
    name = re.sub(r"[\s_]+", "-", label.strip(" \t\"'.;,").lower())
    if name in _LABELS:
        return _LABELS[name]
    if page := _PAGE.fullmatch(name):
        name = f"cp{page[1]}"
    elif mac := _MAC.fullmatch(name):
        name = f"mac-{mac[1]}"
    try:
        codec = codecs.lookup(name)
    except (LookupError, ValueError):
        return ""
    # str → bytes codecs only; rot13, hex and zlib are codecs too
    text_codec: bool = codec._is_text_encoding  # noqa: SLF001 - the only way to ask
    if not text_codec or codec.name.replace("_", "-") in _NOT_CHARSETS:
        return ""
    return _LARGER.get(codec.name, codec.name)


def _byte_order(data: bytes, little: str, big: str, width: int) -> str:
    """Without a mark it is big-endian (RFC 2781 4.3), unless the zeros stand as in the other order."""
    zeros_first = data[0::width].count(0)
    zeros_last = data[width - 1 :: width].count(0)
    return little if zeros_last > zeros_first else big


def _read(data: bytes, name: str) -> str:
    try:
        # UTF-7 can say halves of a character, which no strict reader of our JSON takes
        return _HALVES.sub("\ufffd", data.decode(name))
    except (UnicodeError, ValueError):
        pass
    if name in ("euc_jp", "iso2022_jp_ext"):
        # circled numbers and the like, which NEC added and JIS X 0213 has in the same places
        data = data if name == "euc_jp" else _DOUBLE.sub(lambda m: _high(m[1] or b""), data)
        return data.decode("euc_jis_2004", "replace")
    try:
        return _HALVES.sub("\ufffd", data.decode(name, "replace"))
    except (UnicodeError, ValueError):
        return data.decode("utf-8", "replace")


def _high(double: bytes) -> bytes:
    return bytes(octet | 0x80 if octet > 0x20 else octet for octet in double)
