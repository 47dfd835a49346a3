"""``medmail contacts``: to whom one may write, and with which certificate."""

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from medmail_cli.codes import OK
from medmail_cli.errors import MedmailError
from medmail_cli.model import Note
from medmail_cli.pki.path.evidence import Enclosed
from medmail_cli.pki.x509.address import addresses, looks_mixed
from medmail_cli.pki.x509.bundle import read_bundle
from medmail_cli.pki.x509.certificate import facts, issuer_text, subject_text
from medmail_cli.store.trust.contact import Contact, Known, Origin
from medmail_cli.store.trust.contacts import Contacts
from medmail_cli.workflows.audited import logged

if TYPE_CHECKING:
    from cryptography import x509

    from medmail_cli.pki.path.validation import Authorities, Judgement
    from medmail_cli.store.log.run import RunContext
    from medmail_cli.workflows.mail.send import Event, SendOptions
    from medmail_cli.workflows.mail.sending import SendingContext


@dataclass(frozen=True)
class ContactCertificate:
    """A certificate of a contact and where it came from."""

    sha256: str
    subject: str
    issuer: str
    not_before: dt.datetime
    not_after: dt.datetime
    origin: Origin
    since: dt.datetime
    problems: tuple[str, ...]
    """Why it cannot be encrypted to now; empty if it can."""


@dataclass(frozen=True)
class ContactItem:
    """A contact. ``encrypts`` tells whether a letter can be encrypted to it now."""

    type: ClassVar[str] = "contact"
    address: str
    encrypts: bool
    reads: Literal["modern", "legacy"]
    capabilities: tuple[str, ...]
    capabilities_at: dt.datetime | None
    certificates: tuple[ContactCertificate, ...]
    waiting: tuple[ContactCertificate, ...]
    status: Literal["kept", "added", "changed", "unchanged", "accepted", "removed"]
    exit: int = OK


def listed(
    contacts: Contacts, authorities: "Authorities", query: str, *, now: dt.datetime
) -> Iterator[ContactItem]:
    """The contacts whose address or a certificate's subject contains ``query``, whatever the case.

    Raises ``not-found`` where there is a query and nothing meets it, ``store-damaged``.
    """
    wanted, matched = query.casefold(), False
    for contact in contacts.all():
        names = [subject_text(known.certificate) for known in contact.certificates]
        if any(wanted in text.casefold() for text in (contact.address, *names)):
            matched = True
            yield _shown(contact, "kept", authorities, now)
    if query and not matched:
        raise MedmailError("not-found", what="contact", name=query)


def add(
    contacts: Contacts,
    authorities: "Authorities",
    run: "RunContext",
    data: bytes,
    name: str,
    address: str | None,
) -> Iterator[ContactItem | Note]:
    """Take the certificates of a file, each for the addresses it bears, or all for ``address``.

    Authorities' certificates among them are kept as helpers to build chains with. Raises ``malformed``, and
    ``no-address-in-certificate`` where one bears no address and none is given: then nothing is taken.
    """
    chosen: dict[str, list[x509.Certificate]] = {}
    bundle = read_bundle(data, name).certificates
    above = [certificate for certificate in bundle if facts(certificate).ca]
    for certificate in bundle:
        if facts(certificate).ca:
            continue
        bearers = (address,) if address else addresses(certificate)
        if not bearers:
            raise MedmailError("no-address-in-certificate", subject=subject_text(certificate))
        for bearer in bearers:
            chosen.setdefault(bearer, []).append(certificate)
    if not chosen:
        raise MedmailError("malformed", what=name)
    for bearer, certificates in chosen.items():
        yield from _warnings(bearer, contacts)
        old = contacts.stored(bearer)
        chains = {leaf: _above(leaf, above, authorities, run.now) for leaf in certificates}
        known = {k.certificate: k.above for k in old.certificates} if old is not None else {}
        objects = [Known(certificate, "added", run.now).sha256 for certificate in certificates]
        if (
            old is not None
            and not {*objects} & {*contacts.unknown(old)}
            and all(c in known and {*chains[c]} <= {*known[c]} for c in certificates)
        ):
            yield _shown(old, "unchanged", authorities, run.now)
            continue
        with logged(run, "contact-add", objects=objects, address=bearer):
            contact = contacts.add(
                bearer,
                certificates,
                now=run.now,
                chains=chains,
                signed_by=lambda leaf: _judged(leaf, above, authorities, run.now).signed_by,
            )
        yield _shown(contact, "added" if old is None else "changed", authorities, run.now)


def _above(
    certificate: "x509.Certificate",
    helpers: "Sequence[x509.Certificate]",
    authorities: "Authorities",
    now: dt.datetime,
) -> "list[x509.Certificate]":
    """Those of ``helpers`` that stand above a certificate."""
    chain = _judged(certificate, helpers, authorities, now).chain
    return [helper for helper in chain[1:] if helper in helpers and not facts(helper).self_issued]


def _judged(
    certificate: "x509.Certificate",
    helpers: "Sequence[x509.Certificate]",
    authorities: "Authorities",
    now: dt.datetime,
) -> "Judgement":
    return authorities.judge(
        certificate, enclosed=Enclosed(helpers), at=now, purpose="any", revocation="soft"
    )


def set_reads(
    contacts: Contacts,
    authorities: "Authorities",
    run: "RunContext",
    address: str,
    reads: Literal["modern", "legacy"],
) -> Iterator[ContactItem]:
    """Say what a contact's software reads. Raises ``not-found``."""
    contact = _existing(contacts, address)
    if contact.reads != reads or (reads == "modern" and contact.capabilities):
        with logged(run, "contact-set", address=contact.address, reads=reads):
            contact = contacts.set_reads(contact.address, reads)
        yield _shown(contact, "changed", authorities, run.now)
    else:
        yield _shown(contact, "unchanged", authorities, run.now)


def accept(
    contacts: Contacts,
    authorities: "Authorities",
    run: "RunContext",
    address: str,
    sha256: str,
) -> Iterator[ContactItem]:
    """Take waiting certificates of another issuer into use, and those that the log knew nothing of.

    Raises ``not-found``.
    """
    contact, wanted = contacts.existing(address), sha256.lower().replace(":", "")
    waiting = [known.sha256 for known in contact.waiting if known.sha256.startswith(wanted)]
    unknown = [digest for digest in contacts.unknown(contact) if digest.startswith(wanted)]
    if not waiting and not unknown:
        raise MedmailError("not-found", what="waiting certificate", name=sha256 or address)
    with logged(run, "contact-accept", objects=[*waiting, *unknown], address=contact.address):
        if waiting:
            contact = contacts.accept(contact.address, wanted)
    yield _shown(contact, "accepted", authorities, run.now)


def remove(
    contacts: Contacts,
    authorities: "Authorities",
    run: "RunContext",
    address: str,
) -> Iterator[ContactItem]:
    """Forget a contact. Raises ``not-found``."""
    contact = contacts.existing(address)
    objects = [known.sha256 for known in (*contact.certificates, *contact.waiting)]
    with logged(run, "contact-remove", objects=objects, address=contact.address):
        contacts.remove(contact.address)
    yield _shown(contact, "removed", authorities, run.now)


def _existing(contacts: Contacts, address: str) -> Contact:
    contact = contacts.lookup(address)
    if contact is None:
        raise MedmailError("not-found", what="contact", name=address)
    return contact


def _warnings(address: str, contacts: Contacts) -> Iterator[Note]:
    if looks_mixed(address):
        yield Note("mixed-scripts", {"address": address})
    for other in contacts.resembling(address):
        yield Note("address-resembles", {"address": address, "other": other})


def _shown(
    contact: Contact,
    status: Literal["kept", "added", "changed", "unchanged", "accepted", "removed"],
    authorities: "Authorities",
    now: dt.datetime,
) -> ContactItem:
    certificates = tuple(_certificate(known, authorities, now) for known in contact.certificates)
    return ContactItem(
        contact.address,
        any(not certificate.problems for certificate in certificates),
        contact.reads,
        contact.capabilities,
        contact.capabilities_at,
        certificates,
        tuple(_certificate(known, authorities, now) for known in contact.waiting),
        status,
    )


def _certificate(known: Known, authorities: "Authorities", now: dt.datetime) -> ContactCertificate:
    certificate = known.certificate
    judgement = authorities.judge(
        certificate,
        enclosed=Enclosed(known.above),
        at=now,
        known_now=now,
        purpose="encrypt",
        revocation="soft",
    )
    return ContactCertificate(
        known.sha256,
        subject_text(certificate),
        issuer_text(certificate),
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
        known.origin,
        known.since,
        tuple(dict.fromkeys(problem.code for problem in judgement.problems)),
    )


def invite(
    context: "SendingContext",
    address: str,
    sender: str | None,
    options: "SendOptions",
    *,
    subject: str,
    text: str,
) -> "Iterator[Event]":
    """Open a first contact: a fixed text, signed only, which carries our certificates and capabilities.

    It goes the way of every letter (outbox, audit, copies). Raises what ``send`` raises, and
    ``bad-address``.
    """
    from medmail_cli.workflows.mail import drafts
    from medmail_cli.workflows.mail.send import send

    draft = drafts.Draft(
        to=(drafts.mailbox(address),),
        sender=drafts.mailbox(sender) if sender else None,
        subject=subject,
        body=text,
    )
    yield from send([draft], context, replace(options, sign_only=True))
