"""``medmail trust``: whom to believe, and fresh word of what was revoked."""

import datetime as dt
from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, Literal

from cryptography import x509

from medmail_cli.codes import OK
from medmail_cli.errors import MedmailError
from medmail_cli.model import Note
from medmail_cli.pki.path.evidence import Enclosed
from medmail_cli.pki.path.validation import Authorities, Judgement, Path
from medmail_cli.pki.x509 import dn, locations
from medmail_cli.pki.x509.bundle import read_bundle
from medmail_cli.pki.x509.certificate import facts, issuer_text, subject_text
from medmail_cli.store.trust.anchors import Item, Trust
from medmail_cli.workflows.audited import logged
from medmail_cli.workflows.trust.revocation_fetch import Fetched, Fetcher, failed, keep, sound

if TYPE_CHECKING:
    from pathlib import Path as FilePath

    from medmail_cli.store.log.run import RunContext
    from medmail_cli.store.trust.contacts import Contacts
    from medmail_cli.store.trust.incomplete_chains import Incomplete

Kind = Literal["anchor", "intermediate", "crl", "contact"]
Status = Literal["kept", "added", "unchanged", "removed"]


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
    status: Status
    exit: int = OK


def add(
    trust: Trust, run: "RunContext", data: bytes, name: str, *, intermediate: bool
) -> Iterator[TrustItem]:
    """Take a file's certificates and CRLs; every new one is an entry of the audit log.

    Raises ``malformed``, ``store-damaged`` and what the disk refuses; then nothing of the file is taken
    that was not shown.
    """
    for item, new in trust.plan(data, name, intermediate=intermediate):
        if new:
            with logged(run, "trust-add", objects=(item.sha256,), kind=item.kind):
                trust.keep(item)
        yield _shown(item, "added" if new else "unchanged")


def take_in(contacts: "Contacts", run: "RunContext", path: "FilePath") -> Iterator[TrustItem]:
    """Take in a contact's file that the log knew nothing of, with what somebody took by hand.

    Raises ``store-damaged``.
    """
    contact = contacts.at(path)
    new = contacts.unknown(contact)
    if new:
        with logged(run, "contact-add", objects=new, address=contact.address):
            pass  # the file is there already
    for known in contact.by_hand:
        status: Status = "added" if known.sha256 in new else "unchanged"
        yield _of(known.certificate, "contact", known.sha256, status)


def items(trust: Trust) -> Iterator[TrustItem]:
    """Everything in the store. Raises ``store-damaged``."""
    for item in trust.items():
        yield _shown(item, "kept")


def remove(trust: Trust, run: "RunContext", prefix: str) -> Iterator[TrustItem | Note]:
    """Take out the one item whose SHA-256 begins so, or forget a file of remembered revocations by its name.

    Raises ``not-found``, ``ambiguous-digest``.
    """
    try:
        item = trust.find(prefix)
    except MedmailError as error:
        if error.code != "not-found":
            raise
        path = trust.forgettable(prefix)
        with logged(run, "trust-remove", kind="dropped", list=path.stem):
            trust.forget(path)
        yield Note("revocations-forgotten", {"path": str(path)})
        return
    with logged(run, "trust-remove", objects=(item.sha256,), kind=item.kind):
        trust.remove(item)
    yield _shown(item, "removed")


def update(
    trust: Trust,
    run: "RunContext",
    certificates: Iterable[tuple[x509.Certificate, Sequence[x509.Certificate]]],
    incomplete: "Incomplete",
    *,
    allow_private: bool = False,
) -> Iterator[Fetched]:
    """Fetch what is missing about ``certificates`` (ours, our contacts') and the intermediates at hand.

    ``incomplete`` are signers of letters whose chain ended at no anchor; those completed leave it.

    Each certificate comes with the helpers known for its chain. First the issuers that certificates name,
    kept only where the chain then ends at an anchor; then OCSP answers and every CRL named along the chains,
    kept only if signed under the anchor and newer than what is held.
    """
    now = run.now
    fetcher = Fetcher(trust, run, allow_private)
    for_strangers = replace(fetcher, each=STRANGER_SECONDS, seconds=STRANGERS_SECONDS)
    wanted = dict(certificates)
    wanted |= {helper: () for helper in trust.intermediates() if helper not in wanted}
    strangers = {stranger: above for stranger, above in incomplete.all() if stranger not in wanted}
    tried: set[str] = set()
    links: dict[tuple[x509.Certificate, x509.Certificate], Path] = {}
    for certificate, helpers in (wanted | strangers).items():
        judgement = _judge(trust.authorities, certificate, helpers, now)
        if judgement.anchor is None:
            asking = for_strangers if certificate in strangers else fetcher
            judgement = yield from _complete(asking, judgement, helpers, tried)
        if judgement.anchor is not None:
            incomplete.remove(certificate)
        if sound(judgement):
            chain = judgement.chain
            for index, link in enumerate(pairwise(chain)):
                links.setdefault(link, chain[index + 1 :])
    for (below, issuer), above in links.items():
        read = facts(below)
        if not read.never_revoked and read.not_before <= now <= read.not_after:
            yield from fetcher.answer(below, issuer)
        yield from fetcher.lists(locations.revocation_points(below), above)


def _judge(
    authorities: Authorities,
    certificate: x509.Certificate,
    helpers: Sequence[x509.Certificate],
    now: dt.datetime,
) -> Judgement:
    return authorities.judge(
        certificate, enclosed=Enclosed(helpers), at=now, purpose="any", revocation="soft"
    )


_MOST_ISSUERS = 4
"""Places asked to complete one chain."""
_MOST_FETCHED = 16
"""Certificates taken from one place, those of the name wanted first."""
_LARGEST_ISSUERS = 1 << 20
STRANGER_SECONDS, STRANGERS_SECONDS = 10.0, 60.0
"""What one place named by a letter, and all of them, may take: whoever wrote may have a slow server."""


def _complete(
    fetcher: Fetcher, judgement: Judgement, helpers: Sequence[x509.Certificate], tried: set[str]
) -> Generator[Fetched, None, Judgement]:
    """Fetch issuers upwards until an anchor is reached; returns the last judgement."""
    certificate = judgement.chain[0]
    fetched: list[x509.Certificate] = []
    urls: list[str] = []
    for _ in range(_MOST_ISSUERS):
        source = next(_places(judgement, (*fetched, *helpers), tried), None)
        if judgement.anchor is not None or source is None:
            break
        below, url = source
        tried.add(url)
        try:
            certificates = read_bundle(fetcher.get(url, size=_LARGEST_ISSUERS), url).certificates
        except MedmailError as error:
            yield failed(url, "intermediate", error)
            continue
        urls.append(url)
        name = facts(below).issuer
        fetched += sorted(certificates, key=lambda each: facts(each).subject != name)[:_MOST_FETCHED]
        judgement = _judge(fetcher.trust.authorities, certificate, (*helpers, *fetched), fetcher.run.now)
    new = [above for above in judgement.chain[1:-1] if above in fetched] if sound(judgement) else []
    for helper in new:
        keep(fetcher.trust, fetcher.run, helper)
    for url in urls:
        yield Fetched(url, "intermediate", "updated" if new else "unchanged", None, None, OK)
    return judgement


def _places(
    judgement: Judgement, others: Iterable[x509.Certificate], tried: Collection[str]
) -> Iterator[tuple[x509.Certificate, str]]:
    """Where more may be had to complete a chain, and whose issuers: of those at its end first.

    It may end at a root that nobody here trusts, while somebody who is trusted has certified that root, or
    one below it, too (RFC 4158 §2.3).
    """
    subjects = {facts(link).subject for link in judgement.chain}
    twins = (other for other in others if facts(other).subject in subjects)
    for certificate in (*reversed(judgement.chain), *twins):
        for url in locations.issuer_urls(certificate):
            if url not in tried:
                yield certificate, url


def _shown(item: Item, status: Status) -> TrustItem:
    if item.kind != "crl":
        return _of(item.certificate, item.kind, item.sha256, status)
    crl = item.crl
    issuer = dn.crl_issuer(crl).rfc4514_string()
    return TrustItem(item.kind, item.sha256, issuer, issuer, crl.last_update_utc, crl.next_update_utc, status)


def _of(
    content: x509.Certificate,
    kind: Kind,
    sha256: str,
    status: Status,
) -> TrustItem:
    since, until = content.not_valid_before_utc, content.not_valid_after_utc
    return TrustItem(kind, sha256, subject_text(content), issuer_text(content), since, until, status)
