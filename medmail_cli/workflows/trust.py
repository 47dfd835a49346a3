"""``medmail trust``: whom to believe, and fresh word of what was revoked."""

import datetime as dt
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID

from medmail_cli.errors import DAMAGED, OK, MedmailError, exit_of
from medmail_cli.pki.bundle import read_bundle
from medmail_cli.pki.certificate import facts, verifies
from medmail_cli.pki.path import Authorities, Enclosed, Judgement
from medmail_cli.pki.unreadable import UNREADABLE
from medmail_cli.store.trust import Item, Trust
from medmail_cli.transport import http
from medmail_cli.workflows.logged import logged

if TYPE_CHECKING:
    from medmail_cli.store.auditlog import AuditLog

Kind = Literal["anchor", "intermediate", "crl"]


@dataclass(frozen=True)
class TrustItem:
    """A certificate or CRL of the trust store, and what became of it.

    ``subject`` is a CRL's issuer; ``until`` a certificate's end or a CRL's nextUpdate.
    """

    type: ClassVar[str] = "trust"
    kind: Kind
    sha256: str
    subject: str
    issuer: str
    since: dt.datetime
    until: dt.datetime | None
    status: Literal["kept", "added", "unchanged", "removed"]
    exit: int = OK


@dataclass(frozen=True)
class Fetched:
    """What came of one address that a certificate names."""

    type: ClassVar[str] = "fetched"
    url: str
    kind: Literal["crl", "intermediate"]
    status: Literal["updated", "unchanged", "failed"]
    code: str | None
    reason: str | None
    exit: int


def add(
    trust: Trust, log: "AuditLog", actor: str, data: bytes, name: str, *, intermediate: bool
) -> Iterator[TrustItem]:
    """Take a file's certificates and CRLs; every new one is an entry of the audit log.

    Raises ``malformed``, ``store-damaged`` and what the disk refuses; then nothing of the file is taken
    that was not shown.
    """
    for item, new in trust.plan(data, name, intermediate=intermediate):
        if new:
            with logged(log, "trust-add", actor, objects=(item.sha256,), kind=item.kind):
                trust.keep(item)
        yield _shown(item, "added" if new else "unchanged")


def items(trust: Trust) -> Iterator[TrustItem]:
    """Everything in the store. Raises ``store-damaged``."""
    for item in trust.items():
        yield _shown(item, "kept")


def remove(trust: Trust, log: "AuditLog", actor: str, prefix: str) -> Iterator[TrustItem]:
    """Take out the one item whose SHA-256 begins so. Raises ``not-found``, ``ambiguous-digest``."""
    item = trust.find(prefix)
    with logged(log, "trust-remove", actor, objects=(item.sha256,), kind=item.kind):
        trust.remove(item)
    yield _shown(item, "removed")


def update(
    trust: Trust,
    log: "AuditLog",
    actor: str,
    certificates: Iterable[x509.Certificate],
    *,
    now: dt.datetime,
    allow_private: bool = False,
) -> Iterator[Fetched]:
    """Fetch what is missing about ``certificates`` (ours, our contacts') and the intermediates at hand.

    First the issuers that certificates name, kept only where the chain then ends at an anchor; then every
    CRL named along the chains, kept only if signed by the chain's own issuers and newer than the one held.
    """
    limits = http.Limits(allow_private=allow_private)
    seen: set[str] = set()
    judged: list[Judgement] = []
    for certificate in dict.fromkeys((*certificates, *trust.intermediates())):
        judgement = _judge(trust.authorities, certificate, (), now)
        if judgement.anchor is None:
            judgement = yield from _complete(trust, log, actor, judgement, seen, limits, now)
        if judgement.anchor is not None:
            judged.append(judgement)
    for judgement in judged:
        for below, issuer in zip(judgement.chain, judgement.chain[1:], strict=False):
            for url in _crl_urls(below):
                if url not in seen:
                    seen.add(url)
                    yield _fetch_crl(trust, log, actor, url, (issuer, *judgement.chain), limits)


def _judge(
    authorities: Authorities,
    certificate: x509.Certificate,
    extra: Sequence[x509.Certificate],
    now: dt.datetime,
) -> Judgement:
    return authorities.judge(certificate, enclosed=Enclosed(extra), at=now, purpose="any", revocation="soft")


_MOST_ISSUERS = 4
"""Certificates fetched to complete one chain."""


def _complete(
    trust: Trust,
    log: "AuditLog",
    actor: str,
    judgement: Judgement,
    seen: set[str],
    limits: http.Limits,
    now: dt.datetime,
) -> Generator[Fetched, None, Judgement]:
    """Fetch issuers upwards until an anchor is reached; returns the last judgement."""
    certificate = judgement.chain[0]
    fetched: list[x509.Certificate] = []
    urls: list[str] = []
    while judgement.anchor is None and len(urls) < _MOST_ISSUERS:
        url = next((url for url in _issuer_urls(judgement.chain[-1]) if url not in seen), None)
        if url is None:
            break
        seen.add(url)
        try:
            fetched += read_bundle(http.fetch(url, limits), url).certificates[:_MOST_ISSUERS]
        except MedmailError as error:
            yield _failed(url, "intermediate", error)
            break
        urls.append(url)
        judgement = _judge(trust.authorities, certificate, fetched, now)
    new = [c for c in judgement.chain[1:-1] if c in fetched] if judgement.anchor is not None else []
    for helper in new:
        _keep(trust, log, actor, helper.public_bytes(Encoding.DER), "")
    for url in urls:
        yield Fetched(url, "intermediate", "updated" if new else "unchanged", None, None, OK)
    return judgement


def _fetch_crl(
    trust: Trust,
    log: "AuditLog",
    actor: str,
    url: str,
    signers: Sequence[x509.Certificate],
    limits: http.Limits,
) -> Fetched:
    try:
        data = http.fetch(url, limits)
        crls = read_bundle(data, url).crls
        if not crls:
            raise MedmailError("malformed", what=url)
        known = (*signers, *trust.intermediates())
        if not all(any(verifies(crl, crl.tbs_certlist_bytes, signer) for signer in known) for crl in crls):
            raise MedmailError("bad-signature")
        changed = _keep(trust, log, actor, data, url)
    except MedmailError as error:
        if exit_of(error.code) == DAMAGED:
            raise
        return _failed(url, "crl", error)
    return Fetched(url, "crl", "updated" if changed else "unchanged", None, None, OK)


def _keep(trust: Trust, log: "AuditLog", actor: str, data: bytes, name: str) -> bool:
    """Store what is new in ``data`` as intermediates and CRLs, each an audit entry; whether there was any."""
    changed = False
    for item, new in trust.plan(data, name, intermediate=True):
        if new:
            with logged(log, "trust-update", actor, objects=(item.sha256,), kind=item.kind):
                trust.keep(item)
            changed = True
    return changed


def _failed(url: str, kind: Literal["crl", "intermediate"], error: MedmailError) -> Fetched:
    reason = error.facts.get("reason") or error.facts.get("detail")
    return Fetched(url, kind, "failed", error.code, str(reason) if reason else None, exit_of(error.code))


def _crl_urls(certificate: x509.Certificate) -> Iterator[str]:
    for point in facts(certificate).points:
        for name in point.full_name or ():
            if isinstance(name, x509.UniformResourceIdentifier) and name.value.startswith("http"):
                yield name.value


def _issuer_urls(certificate: x509.Certificate) -> Iterator[str]:
    try:
        access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except (x509.ExtensionNotFound, *UNREADABLE):
        return
    for description in access:
        place = description.access_location
        issuers = description.access_method == AuthorityInformationAccessOID.CA_ISSUERS
        if issuers and isinstance(place, x509.UniformResourceIdentifier) and place.value.startswith("http"):
            yield place.value


def _shown(item: Item, status: Literal["kept", "added", "unchanged", "removed"]) -> TrustItem:
    content = item.content
    if isinstance(content, x509.Certificate):
        subject, since, until = content.subject, content.not_valid_before_utc, content.not_valid_after_utc
        return TrustItem(
            item.kind,
            item.sha256,
            subject.rfc4514_string(),
            content.issuer.rfc4514_string(),
            since,
            until,
            status,
        )
    issuer = content.issuer.rfc4514_string()
    since = content.last_update_utc
    return TrustItem(item.kind, item.sha256, issuer, issuer, since, content.next_update_utc, status)
