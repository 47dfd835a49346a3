"""Whom a letter can be sent to, by which certificate, and how strong it will be."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from medmail_cli.errors import MedmailError
from medmail_cli.pki.address import ascii_domain, exact
from medmail_cli.pki.path import Enclosed
from medmail_cli.smime.protect import Style
from medmail_cli.store.identity import fingerprint

if TYPE_CHECKING:
    from medmail_cli.model import PrivateKey
    from medmail_cli.pki.path import Authorities, Judgement
    from medmail_cli.profile import Profile
    from medmail_cli.smime.fields import Mailbox
    from medmail_cli.store.contacts import Contact, Contacts, Known
    from medmail_cli.store.outbox import Protection


@dataclass(frozen=True)
class Addressee:
    """A recipient and the certificate to encrypt to; without one, ``reason`` says what is wrong."""

    address: str
    certificate: x509.Certificate | None
    contact: "Contact | None" = None
    reason: str = ""


@dataclass
class Directory:
    """Finds recipients' certificates; each certificate is judged once."""

    contacts: "Contacts"
    authorities: "Authorities"
    profile: "Profile"
    now: datetime
    own: Sequence[tuple[str, x509.Certificate]] = ()
    """One's own addresses and encryption certificates: a letter may go to oneself."""
    _found: dict[str, Addressee] = field(default_factory=dict)
    _judged: "dict[x509.Certificate, Judgement]" = field(default_factory=dict)

    def find(self, box: "Mailbox") -> Addressee:
        """The addressee for a mailbox. Raises ``store-damaged``."""
        key = exact(box.address)
        if key not in self._found:
            self._found[key] = self._find(box.address)
        return replace(self._found[key], address=box.address)

    def _find(self, address: str) -> Addressee:
        contact = self.contacts.lookup(address)
        if contact is None:
            mine = [certificate for own, certificate in self.own if exact(own) == exact(address)]
            return Addressee(address, mine[0] if mine else None, None, "" if mine else "unknown")
        reason = "waiting" if contact.waiting and not contact.certificates else "unfit"
        for known in contact.encryption(self.now):
            problems = self._judge(known).problems
            if not problems:
                return Addressee(address, known.certificate, contact)
            reason = problems[0].code if reason in ("unfit", "waiting") else reason
        return Addressee(address, None, contact, reason)

    def _judge(self, known: "Known") -> "Judgement":
        certificate = known.certificate
        if certificate not in self._judged:
            self._judged[certificate] = self.authorities.judge(
                certificate,
                enclosed=Enclosed(known.above),
                at=self.now,
                known_now=self.now,
                purpose="encrypt",
                revocation=self.profile.revocation,
            )
        return self._judged[certificate]


@dataclass(frozen=True)
class Plan:
    """How a letter goes out, and who cannot get it (each with its error code)."""

    protection: "Protection"
    addressees: tuple[Addressee, ...]
    excluded: tuple[tuple[Addressee, Literal["no-recipient-certificate", "not-whitelisted"]], ...] = ()


def plan(
    boxes: Iterable["Mailbox"], directory: Directory, whitelist: frozenset[str], *, sign_only: bool
) -> Plan:
    """One strength for the whole letter: the same text is never sent in two."""
    everybody = tuple(directory.find(box) for box in boxes)
    if sign_only:
        return Plan("signed-only", everybody)
    certified = tuple(one for one in everybody if one.certificate is not None)
    others = [one for one in everybody if one.certificate is None]
    policy = directory.profile.end_to_end
    if policy != "off" and not others:
        return Plan("end-to-end", everybody)
    listed = tuple(one for one in everybody if _domain(one.address) in whitelist)
    if policy == "off" or (policy == "when-possible" and len(listed) == len(everybody)):
        strangers = [one for one in everybody if one not in listed]
        return Plan("transport-only", listed, tuple((one, "not-whitelisted") for one in strangers))
    return Plan("end-to-end", certified, tuple((one, "no-recipient-certificate") for one in others))


def read_whitelist(path: Path | None) -> frozenset[str]:
    """The domains of a whitelist, one a line, ``#`` begins a comment. Raises ``not-readable``."""
    if path is None:
        return frozenset()
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise MedmailError("not-readable", path=str(path), reason=str(error)) from error
    names = (line.partition("#")[0].strip() for line in lines)
    return frozenset(ascii_domain(name) for name in names if name)


def _domain(address: str) -> str:
    return ascii_domain(address.rpartition("@")[2])


def style(profile: "Profile", addressees: Sequence[Addressee], key: "PrivateKey") -> Style:
    """How the letter is made, for what its recipients said they read and the profile wants.

    CBC only where a recipient reads no GCM; PSS and binary insides only where all said they read them.
    """
    contacts = [one.contact for one in addressees]
    said = [frozenset(one.capabilities) if one else frozenset[str]() for one in contacts]
    legacy = any(one is not None and _reads_no_gcm(one) for one in contacts)
    cipher = profile.cipher
    if legacy and cipher.endswith("gcm"):
        cipher = "aes-256-cbc"
    pss = profile.rsa_signature == "pss" or (bool(said) and all("rsa-pss-sha256" in each for each in said))
    wants_oaep = profile.rsa_encryption == "oaep"
    return Style(
        cipher=cipher,
        signature=profile.signature,
        scheme="rsa-pss-sha256" if pss and isinstance(key.public_key, rsa.RSAPublicKey) else None,
        oaep_for=frozenset(
            fingerprint(one.certificate)
            for one, each in zip(addressees, said, strict=True)
            if one.certificate is not None and (wants_oaep or "rsa-oaep-sha256" in each)
        ),
        wrapping=profile.wrapping,
        header_protection=profile.header_protection,
        outer_subject=profile.outer_subject,
        smime_type_auth_enveloped=profile.smime_type_auth_enveloped,
        binary=bool(said) and all("prefer-binary-inside" in each for each in said),
    )


def _reads_no_gcm(contact: "Contact") -> bool:
    if contact.reads == "legacy":
        return True
    return bool(contact.capabilities) and not any(name.endswith("-gcm") for name in contact.capabilities)
