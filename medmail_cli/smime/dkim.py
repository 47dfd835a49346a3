"""Checking DomainKeys Identified Mail: RFC 6376, with RFC 8301's algorithms and RFC 8463's Ed25519.

What is given back of a signature that holds are the fields it covers and nothing else: a field that somebody
added on the way, or put before the signed one of its name, is not among them. Signatures over a part of the
body (``l=``), by keys in testing (``t=y``) and by RSA below 1024 bits prove nothing.
"""

import binascii
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from medmail_cli.errors import MedmailError
from medmail_cli.smime import mime
from medmail_cli.smime.fields import Field

Lookup = Callable[[str], Sequence[bytes]]
"""The texts (TXT) that DNS has for a name, each joined; nothing where there are none."""

MOST_SIGNATURES = 4
"""Of one message that are looked at; each costs a question to DNS."""
LEAST_BITS, MOST_BITS = 1024, 8192
_NAME = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62})(?:\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*\Z"
)
_TAG = re.compile(rb"[A-Za-z][A-Za-z0-9_]*\Z")
_SIGNATURE = re.compile(rb"(?s)((?:\A|;)\s*b\s*=)[^;]*")


@dataclass(frozen=True)
class Signed:
    """A signature that holds: whose domain it is, in lower case, and the fields it covers."""

    domain: str
    fields: tuple[Field, ...]


def verify(message: bytes, domain: str, lookup: Lookup, at: datetime) -> tuple[Signed, ...]:
    """The signatures of ``domain`` on a message that hold at a time; never raises for what the message says.

    Nothing is asked about other domains: a stranger would learn that his mail is read. ``message`` is as it
    came, with CRLF line ends. What ``lookup`` raises is raised.
    """
    try:
        entity = mime.parse(message)
    except MedmailError:
        return ()
    body = message[entity.body : entity.end]
    valid = []
    wanted = domain.lower()
    signatures = [(field, _tags(field.raw.partition(b":")[2])) for field in entity.all("dkim-signature")]
    ours = [(field, tags) for field, tags in signatures if tags and tags.get("d", "").lower() == wanted]
    for field, tags in ours[:MOST_SIGNATURES]:
        signed = _verified(field, tags, entity.fields, body, lookup, at)
        if signed is not None:
            valid.append(signed)
    return tuple(valid)


def _verified(
    own: Field,
    tags: Mapping[str, str],
    fields: Sequence[Field],
    body: bytes,
    lookup: Lookup,
    at: datetime,
) -> Signed | None:
    """RFC 6376 §6.1, from what costs nothing to what asks somebody."""
    domain, selector = tags.get("d", "").lower(), tags.get("s", "")
    kind, _, digest = tags.get("a", "").partition("-")
    names = [name.strip().lower() for name in tags.get("h", "").split(":")]
    identity = tags.get("i", "").rpartition("@")[2].lower() or domain
    header_form, _, body_form = tags.get("c", "simple/simple").partition("/")
    if (
        tags.get("v") != "1"
        or digest != "sha256"
        or "l" in tags
        or "from" not in names
        or not _NAME.match(domain)
        or not _NAME.match(selector)
        or not (identity == domain or identity.endswith(f".{domain}"))
        or _expired(tags.get("x"), at)
    ):
        return None
    forms = {header_form, body_form or "simple"}
    if not forms <= {"simple", "relaxed"}:
        return None
    body_hash = hashlib.sha256(_body(body, relaxed=body_form == "relaxed")).digest()
    signature = _base64(tags.get("b", ""))
    if not signature or _base64(tags.get("bh", "")) != body_hash:
        return None
    covered = _covered(names, fields)
    relaxed = header_form == "relaxed"
    # the signature covers its own field, but for what stands after b=
    name, _, value = own.raw.partition(b":")
    emptied = Field(own.name, name + b":" + _SIGNATURE.sub(rb"\1", value))
    data = b"".join(_header(field, relaxed=relaxed) for field in covered)
    data += _header(emptied, relaxed=relaxed).removesuffix(b"\r\n")
    for record in lookup(f"{selector}._domainkey.{domain}")[:MOST_SIGNATURES]:
        key = _key(record, kind, strict=identity == domain)
        if key is not None and _holds(key, signature, data):
            return Signed(domain, tuple(dict.fromkeys(covered)))
    return None


def _covered(names: Sequence[str], fields: Sequence[Field]) -> list[Field]:
    """The fields that ``h=`` names, the last of a name first (§5.4.2); one that is not there is nothing."""
    left: dict[str, list[Field]] = {}
    for field in fields:
        left.setdefault(field.name, []).append(field)
    return [left[name].pop() for name in names if left.get(name)]


def _key(record: bytes, kind: str, *, strict: bool) -> "rsa.RSAPublicKey | ed25519.Ed25519PublicKey | None":
    """The key in a record, if it may be used so (§3.6.1); ``strict`` says that i= and d= are one domain."""
    tags = _tags(record)
    if tags is None or tags.get("v", "DKIM1") != "DKIM1" or tags.get("k", "rsa") != kind:
        return None
    flags = _list(tags.get("t", ""))
    if "y" in flags or ("s" in flags and not strict):
        return None
    if not {"*", "email"} & _list(tags.get("s", "*")) or "sha256" not in _list(tags.get("h", "sha256")):
        return None
    data = _base64(tags.get("p", ""))
    try:
        if kind == "ed25519":
            return ed25519.Ed25519PublicKey.from_public_bytes(data)
        key = load_der_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        return None
    return key if isinstance(key, rsa.RSAPublicKey) and LEAST_BITS <= key.key_size <= MOST_BITS else None


def _holds(key: "rsa.RSAPublicKey | ed25519.Ed25519PublicKey", signature: bytes, data: bytes) -> bool:
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, data, padding.PKCS1v15(), hashes.SHA256())
        else:
            # PureEdDSA over the digest (RFC 8463 §3)
            key.verify(signature, hashlib.sha256(data).digest())
    except InvalidSignature:
        return False
    return True


def _header(field: Field, *, relaxed: bool) -> bytes:
    """A field as it is signed (§3.4.1, §3.4.2)."""
    raw = re.sub(rb"\r?\n", b"\r\n", field.raw)
    if not relaxed:
        return raw + b"\r\n"
    name, _, value = raw.partition(b":")
    value = re.sub(rb"[ \t]+", b" ", value.replace(b"\r\n", b"")).strip(b" ")
    return name.strip(b" \t").lower() + b":" + value + b"\r\n"


def _body(body: bytes, *, relaxed: bool) -> bytes:
    """The body as it is signed (§3.4.3, §3.4.4)."""
    lines = body.replace(b"\r\n", b"\n").split(b"\n")
    if relaxed:
        lines = [re.sub(rb"[ \t]+", b" ", line).rstrip(b" ") for line in lines]
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        return b"" if relaxed else b"\r\n"
    return b"\r\n".join(lines) + b"\r\n"


def _tags(value: bytes) -> dict[str, str] | None:
    """A tag list (§3.2); None where it is none or has a tag twice."""
    tags: dict[str, str] = {}
    for part in value.strip().removesuffix(b";").split(b";"):
        tag, equals, text = part.partition(b"=")
        if not equals or not _TAG.match(tag.strip()) or (name := tag.strip().decode()) in tags:
            return None
        tags[name] = text.strip().decode("utf-8", "replace")
    return tags


def _list(value: str) -> set[str]:
    return {item.strip() for item in value.split(":")}


def _expired(value: str | None, at: datetime) -> bool:
    if value is None:
        return False
    return not re.fullmatch(r"[0-9]{1,12}", value) or int(value) < at.timestamp()


def _base64(value: str) -> bytes:
    try:
        return binascii.a2b_base64(re.sub(r"\s+", "", value), strict_mode=True)
    except ValueError:
        return b""
