"""What an ACME server says, read strictly: directory, order, authorization, problem (RFC 8555 §6.7, §7.1).

Only what enrolling needs is kept. URLs are checked where they are used: they must lead to the same server.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography import x509

from medmail_cli.errors import MedmailError
from medmail_cli.pki.x509.bundle import read_bundle

EMAIL_REPLY = "email-reply-00"
"""The challenge for addresses (RFC 8823 §3)."""
MOST = 32
"""Identifiers, authorizations and challenges that are looked at; and certificates in a chain."""
_LONGEST = 2000
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,512}\Z")
_PROBLEM = "urn:ietf:params:acme:error:"


@dataclass(frozen=True)
class Directory:
    """Where to ask for what (RFC 8555 §7.1.1); ``terms`` is "" where there are none."""

    new_nonce: str
    new_account: str
    new_order: str
    revoke: str
    terms: str = ""
    external_account_required: bool = False


@dataclass(frozen=True)
class Identifier:
    """What a certificate shall name: ``email`` and an address (RFC 8823 §3)."""

    type: str
    value: str


@dataclass(frozen=True)
class Problem:
    """Why the server does not do it (RFC 8555 §6.7, RFC 7807); ``type`` without ACME's own prefix."""

    type: str = ""
    detail: str = ""

    def __str__(self) -> str:
        return ": ".join(filter(None, (self.type, self.detail)))


@dataclass(frozen=True)
class Order:
    """RFC 8555 §7.1.3."""

    status: str
    identifiers: tuple[Identifier, ...]
    authorizations: tuple[str, ...]
    finalize: str
    certificate: str = ""
    problem: Problem = Problem()


@dataclass(frozen=True)
class Challenge:
    """One way to prove an identifier (RFC 8555 §8); ``sender`` is whom the challenge mail will be from."""

    type: str
    url: str
    status: str
    token: str = ""
    sender: str = ""
    problem: Problem = Problem()


@dataclass(frozen=True)
class Authorization:
    """RFC 8555 §7.1.4."""

    status: str
    identifier: Identifier
    challenges: tuple[Challenge, ...]


def document(body: bytes) -> dict[str, Any]:
    """A JSON object. Raises ``malformed``."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise _malformed("json") from None
    if not isinstance(value, dict):
        raise _malformed("json")
    return value


def directory(body: bytes) -> Directory:
    """RFC 8555 §7.1.1. Raises ``malformed``."""
    members = document(body)
    meta = members.get("meta")
    meta = meta if isinstance(meta, dict) else {}
    return Directory(
        new_nonce=_text(members, "newNonce"),
        new_account=_text(members, "newAccount"),
        new_order=_text(members, "newOrder"),
        revoke=_text(members, "revokeCert", ""),
        terms=_text(meta, "termsOfService", ""),
        external_account_required=meta.get("externalAccountRequired") is True,
    )


def order(body: bytes) -> Order:
    """RFC 8555 §7.1.3. Raises ``malformed``."""
    members = document(body)
    return Order(
        status=_text(members, "status"),
        identifiers=tuple(map(_identifier, _list(members, "identifiers"))),
        authorizations=tuple(map(_string, _list(members, "authorizations"))),
        finalize=_text(members, "finalize"),
        certificate=_text(members, "certificate", ""),
        problem=_problem(members.get("error")),
    )


def authorization(body: bytes) -> Authorization:
    """RFC 8555 §7.1.4. Raises ``malformed``."""
    members = document(body)
    challenges = _list(members, "challenges")
    if not all(isinstance(member, dict) for member in challenges):
        raise _malformed("challenges")
    return Authorization(
        _text(members, "status"),
        _identifier(members.get("identifier")),
        tuple(_challenge(challenge) for challenge in challenges),
    )


def _challenge(members: Mapping[str, Any]) -> Challenge:
    kind = _text(members, "type")
    token = _text(members, "token", "")
    if kind == EMAIL_REPLY and not _TOKEN.match(token):
        raise _malformed("token")
    return Challenge(
        type=kind,
        url=_text(members, "url"),
        status=_text(members, "status"),
        token=token,
        sender=_text(members, "from", "" if kind != EMAIL_REPLY else None),
        problem=_problem(members.get("error")),
    )


def problem(body: bytes) -> Problem:
    """A problem document; what is none says nothing. Never raises."""
    try:
        return _problem(document(body))
    except MedmailError:
        return Problem()


def _problem(value: Any) -> Problem:
    """A problem and, where it has parts, the first of them (RFC 8555 §6.7.1), in a line for a person."""
    if not isinstance(value, dict):
        return Problem()
    parts = value.get("subproblems")
    first = parts[0] if isinstance(parts, list) and parts else None
    details = [value.get("detail"), first.get("detail") if isinstance(first, dict) else None]
    words = "; ".join(dict.fromkeys(detail for detail in details if isinstance(detail, str) and detail))
    kind = value.get("type")
    kind = kind.removeprefix(_PROBLEM) if isinstance(kind, str) and kind != "about:blank" else ""
    return Problem(" ".join(kind[:80].split()), " ".join(words[:400].split())[:200])


def chain(body: bytes) -> tuple[x509.Certificate, ...]:
    """The certificates of an answer (RFC 8555 §9.1), the new one first. Raises ``malformed``."""
    try:
        certificates = read_bundle(body, "certificate").certificates
    except MedmailError:
        raise _malformed("certificate") from None
    if len(certificates) > MOST:
        raise _malformed("too-many-certificates")
    return certificates


def _identifier(identifier: Any) -> Identifier:
    if not isinstance(identifier, dict):
        raise _malformed("identifier")
    return Identifier(_text(identifier, "type"), _text(identifier, "value"))


def _list(members: Mapping[str, Any], name: str) -> list[Any]:
    value = members.get(name)
    if not isinstance(value, list) or len(value) > MOST:
        raise _malformed(name)
    return value


def _text(members: Mapping[str, Any], name: str, default: str | None = None) -> str:
    value = members.get(name, default)
    return _string(default if value is None else value, name)


def _string(value: Any, name: str = "string") -> str:
    if not isinstance(value, str) or len(value) > _LONGEST or not (value.isprintable() or not value):
        raise _malformed(name)
    return value


def _malformed(what: str) -> MedmailError:
    return MedmailError("malformed", what=what, reason="acme")
