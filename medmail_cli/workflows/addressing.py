"""Whom a letter can be sent to, by which certificate, and how strong it will be."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from medmail_cli.cms.algorithms import ml_name
from medmail_cli.errors import MedmailError
from medmail_cli.pki.address import ascii_domain, exact
from medmail_cli.pki.path import Enclosed
from medmail_cli.profile import Cipher
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
    post_quantum: bool = False
    """Only recipients with an ML-KEM key will do; else such a key is used only where there is no other."""
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
            fitting = self._fitting(mine)
            reason = "" if fitting else "not-post-quantum" if mine else "unknown"
            return Addressee(address, fitting[0] if fitting else None, None, reason)
        reason = "waiting" if contact.waiting and not contact.certificates else "unfit"
        usable = {known.certificate: known for known in contact.encryption(self.now)}
        fitting = self._fitting(list(usable))
        if usable and not fitting:
            reason = "not-post-quantum"
        for known in map(usable.__getitem__, fitting):
            problems = self._judge(known).problems
            if not problems:
                return Addressee(address, known.certificate, contact)
            reason = problems[0].code if reason in ("unfit", "waiting") else reason
        return Addressee(address, None, contact, reason)

    def _fitting(self, certificates: Sequence[x509.Certificate]) -> list[x509.Certificate]:
        """Those with the kind of key that is wanted, in the order given."""
        kem = [one for one in certificates if ml_name(one.public_key()).startswith("ml-kem")]
        others = [one for one in certificates if one not in kem]
        return kem if self.post_quantum else others or kem

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


Exclusion = Literal["no-recipient-certificate", "not-whitelisted", "not-post-quantum", "below-floor"]


@dataclass(frozen=True)
class Plan:
    """How a letter goes out, and who cannot get it (each with its error code)."""

    protection: "Protection"
    addressees: tuple[Addressee, ...]
    excluded: tuple[tuple[Addressee, Exclusion], ...] = ()


def plan(
    boxes: Iterable["Mailbox"], directory: Directory, whitelist: frozenset[str], *, sign_only: bool
) -> Plan:
    """One strength for the whole letter: the same text is never sent in two."""
    everybody = tuple(directory.find(box) for box in boxes)
    if sign_only:
        return Plan("signed-only", everybody)
    weakest = directory.profile.weakest_cipher
    certified = tuple(one for one in everybody if one.certificate is not None and _readable(one, weakest))
    others = [one for one in everybody if one not in certified]
    policy = directory.profile.end_to_end
    if directory.post_quantum:
        policy = "required"
    if policy != "off" and not others:
        return Plan("end-to-end", everybody)
    listed = tuple(one for one in everybody if _domain(one.address) in whitelist)
    if policy == "off" or (policy == "when-possible" and len(listed) == len(everybody)):
        strangers = [one for one in everybody if one not in listed]
        return Plan("transport-only", listed, tuple((one, "not-whitelisted") for one in strangers))
    return Plan("end-to-end", certified, tuple((one, _why_not(one)) for one in others))


def _why_not(one: Addressee) -> Exclusion:
    if one.certificate is not None:
        return "below-floor"
    return "not-post-quantum" if one.reason == "not-post-quantum" else "no-recipient-certificate"


def _readable(one: Addressee, weakest: Cipher = "aes-128-cbc") -> tuple[Cipher, ...]:
    """The ciphers that a recipient reads, no weaker than the floor, the strongest first.

    Without a word from them these are the ones RFC 8551 §2.7 makes everybody read.
    """
    allowed = CIPHERS[: CIPHERS.index(weakest) + 1]
    contact = one.contact
    said = frozenset(contact.capabilities) & set(CIPHERS) if contact is not None else frozenset()
    if contact is not None and contact.reads == "legacy":
        said = frozenset({"aes-256-cbc", "aes-128-cbc"})
    return tuple(cipher for cipher in allowed if cipher in (said or _MANDATORY))


CIPHERS: tuple[Cipher, ...] = get_args(Cipher)
_MANDATORY = frozenset({"aes-256-gcm", "aes-128-gcm", "aes-256-cbc", "aes-128-cbc"})


def _cipher(profile: "Profile", addressees: Sequence[Addressee]) -> Cipher:
    """The profile's, else the strongest that everybody reads. Raises ``no-common-cipher``."""
    readable = [set(_readable(one, profile.weakest_cipher)) for one in addressees]
    # ChaCha20 goes out only where the profile says so
    wanted = dict.fromkeys((profile.cipher, *(one for one in CIPHERS if one != "chacha20-poly1305")))
    for cipher in wanted:
        if all(cipher in each for each in readable):
            return cipher
    raise MedmailError("no-common-cipher", addresses=[one.address for one in addressees])


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

    CBC only where a recipient reads no GCM; PSS, binary insides and derived keys only where all said they
    read them. Raises ``no-common-cipher``.
    """
    contacts = [one.contact for one in addressees]
    said = [frozenset(one.capabilities) if one else frozenset[str]() for one in contacts]
    pss = profile.rsa_signature == "pss" or (bool(said) and all("rsa-pss-sha256" in each for each in said))
    wants_oaep = profile.rsa_encryption == "oaep"
    return Style(
        cipher=_cipher(profile, addressees),
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
        derive_key=bool(said) and all("cek-hkdf-sha256" in each for each in said),
        legacy_display=any(one is not None and one.reads == "legacy" for one in contacts),
    )
