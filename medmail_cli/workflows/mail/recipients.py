"""To whom a letter goes, and how strong it will be: one strength for everybody."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from cryptography.hazmat.primitives.asymmetric import rsa

from medmail_cli.cms.algorithms import is_older_cipher
from medmail_cli.cms.certificates import fingerprint
from medmail_cli.cms.signed import certified_capabilities
from medmail_cli.errors import MedmailError, NothingAttemptedError, not_readable
from medmail_cli.model import ContentCipher
from medmail_cli.pki.x509.address import ascii_domain, exact
from medmail_cli.smime.protect import Style

if TYPE_CHECKING:
    from medmail_cli.profile import Profile
    from medmail_cli.smime.fields import Mailbox
    from medmail_cli.smime.protect import Signer
    from medmail_cli.store.queue.outbox import Protection
    from medmail_cli.workflows.trust.lookup import Addressee, RecipientResolver


Exclusion = Literal["no-recipient-certificate", "not-whitelisted", "not-post-quantum", "below-floor"]


@dataclass(frozen=True)
class Plan:
    """How a letter goes out, and who cannot get it (each with its error code)."""

    protection: "Protection"
    addressees: tuple["Addressee", ...]
    excluded: tuple[tuple["Addressee", Exclusion], ...] = ()
    cipher: ContentCipher = "aes-256-gcm"


def check_named(addresses: Iterable[str], boxes: Iterable["Mailbox"]) -> None:
    """Raises ``not-a-recipient`` where one of the addresses, written by :func:`exact`, is nobody's here."""
    everybody = {exact(box.address) for box in boxes}
    for address in sorted(addresses):
        if address not in everybody:
            raise MedmailError("not-a-recipient", address=address)


def plan_of(
    boxes: Iterable["Mailbox"],
    resolver: "RecipientResolver",
    whitelist: frozenset[str],
    *,
    sign_only: bool,
    transport_only: frozenset[str] = frozenset(),
    confidential: bool = False,
) -> Plan:
    """One strength for the whole letter: the same text is never sent in two. Raises ``no-common-cipher``.

    A certificate that must not be used is never taken for none, nor does one recipient without any take the
    others' protection away, unless the sender has said so of each such address (``transport_only``, as
    :func:`exact` writes them) and the profile is ``when-possible``. What is ``confidential``, an answer to an
    encrypted letter, does not go in clear, whatever the profile says. Who has a certificate but reads only
    ciphers below the floor gets nothing, rather than less than that.
    """
    everybody = tuple(resolver.find(box) for box in boxes)
    if sign_only:
        return Plan("signed-only", everybody)
    policy = "required" if confidential else resolver.profile.end_to_end
    excluded: list[tuple[Addressee, Exclusion]] = []
    if policy == "off" and not resolver.post_quantum:
        listed = tuple(addressee for addressee in everybody if _domain(addressee.address) in whitelist)
        excluded += [(addressee, "not-whitelisted") for addressee in everybody if addressee not in listed]
        return Plan("transport-only", listed, tuple(excluded))
    floor = resolver.profile.weakest_cipher
    certified = tuple(addressee for addressee in everybody if addressee.certificate is not None)
    able = tuple(addressee for addressee in certified if readable(addressee, floor))
    excluded += [(addressee, "below-floor") for addressee in certified if addressee not in able]
    bare = tuple(addressee for addressee in everybody if addressee.certificate is None)
    if policy == "when-possible" and not resolver.post_quantum:
        listed = tuple(addressee for addressee in everybody if _domain(addressee.address) in whitelist)
        named = [addressee for addressee in bare if exact(addressee.address) in transport_only]
        excluded += [(addressee, "not-whitelisted") for addressee in named if addressee not in listed]
        bare = tuple(addressee for addressee in bare if addressee not in named)
        strangers = [addressee for addressee in bare if addressee.reason == "unknown"]
        alone = not able and all(addressee in listed for addressee in strangers)
        if (alone and strangers) or any(addressee in listed for addressee in named):
            wanted = [*able, *named, *(strangers if alone else ())]
            excluded += [
                (addressee, "no-recipient-certificate") for addressee in bare if addressee not in wanted
            ]
            excluded += [(addressee, "not-whitelisted") for addressee in able if addressee not in listed]
            return Plan(
                "transport-only",
                tuple(addressee for addressee in listed if addressee in wanted),
                tuple(excluded),
            )
    excluded += [
        (
            addressee,
            "not-post-quantum" if addressee.reason == "not-post-quantum" else "no-recipient-certificate",
        )
        for addressee in bare
    ]
    return Plan("end-to-end", able, tuple(excluded), _cipher(resolver.profile, able))


def readable(addressee: "Addressee", weakest: ContentCipher = "aes-128-cbc") -> tuple[ContentCipher, ...]:
    """The ciphers that a recipient reads, no weaker than the floor, the strongest first.

    Without a word from them these are the ones RFC 8551 §2.7 makes everybody read. Who names ciphers, and
    none of ours among them, speaks an older S/MIME, of which AES-128-CBC is the best (RFC 5751 §2.7).
    """
    allowed = CIPHERS[: CIPHERS.index(weakest) + 1]
    contact = addressee.contact
    said: frozenset[str] = _MANDATORY
    if contact is not None and contact.reads == "legacy":
        said = frozenset({"aes-256-cbc", "aes-128-cbc"})
    elif contact is not None:
        named = {name for name in contact.capabilities if name in CIPHERS or is_older_cipher(name)}
        if named:
            said = frozenset(named & set(CIPHERS)) or frozenset({"aes-128-cbc"})
    return tuple(cipher for cipher in allowed if cipher in said)


CIPHERS: tuple[ContentCipher, ...] = get_args(ContentCipher)
_MANDATORY = frozenset({"aes-256-gcm", "aes-128-gcm", "aes-256-cbc", "aes-128-cbc"})


def _cipher(profile: "Profile", addressees: Sequence["Addressee"]) -> ContentCipher:
    """The profile's, else the strongest that everybody reads. Raises ``no-common-cipher``."""
    sets = [set(readable(addressee, profile.weakest_cipher)) for addressee in addressees]
    # ChaCha20 goes out only where the profile says so, or to those who named nothing else
    for cipher in sorted(
        CIPHERS, key=lambda choice: (choice != profile.cipher, choice == "chacha20-poly1305")
    ):
        if all(cipher in each for each in sets):
            return cipher
    raise NothingAttemptedError("no-common-cipher", addresses=[addressee.address for addressee in addressees])


def read_whitelist(path: Path | None) -> frozenset[str]:
    """The domains of a whitelist, one a line, ``#`` begins a comment. Raises ``not-readable``."""
    if path is None:
        return frozenset()
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise not_readable(path, error) from None
    names = (line.partition("#")[0].strip() for line in lines)
    return frozenset(ascii_domain(name) for name in names if name)


def _domain(address: str) -> str:
    return ascii_domain(address.rpartition("@")[2])


def _said(addressee: "Addressee") -> frozenset[str]:
    """What a recipient, or their certificate where they said nothing, said of what their letters may hold.

    Of ciphers a certificate does not speak here: authorities fill in what old software could read. Of
    somebody set to legacy nothing is believed that an older reader might fail on.
    """
    if addressee.contact is not None and addressee.contact.reads == "legacy":
        return frozenset()
    if addressee.contact is not None and addressee.contact.capabilities:
        return frozenset(addressee.contact.capabilities)
    return frozenset(
        certified_capabilities(addressee.certificate) if addressee.certificate is not None else ()
    )


def style_of(profile: "Profile", plan: Plan, signer: "Signer") -> Style:
    """How the letter is made, for what its recipients said they read and the profile wants.

    PSS, binary insides and derived keys only where all said they read them. OAEP that the profile wants is
    for the sender's own entry too: it opens the letter like any other.
    """
    addressees = plan.addressees
    said = [_said(addressee) for addressee in addressees]
    pss = profile.rsa_signature == "pss" or (bool(said) and all("rsa-pss-sha256" in each for each in said))
    wants_oaep = profile.rsa_encryption == "oaep"
    oaep_for = {
        fingerprint(addressee.certificate)
        for addressee, each in zip(addressees, said, strict=True)
        if addressee.certificate is not None and (wants_oaep or "rsa-oaep-sha256" in each)
    }
    return Style(
        cipher=plan.cipher,
        # who has no certificate hardly has a program that shows what is signed opaque (RFC 8551 §3.5)
        signature="detached" if plan.protection == "transport-only" else profile.signature,
        scheme="rsa-pss-sha256" if pss and isinstance(signer.key.public_key, rsa.RSAPublicKey) else None,
        oaep_for=frozenset(
            oaep_for | ({fingerprint(signer.encryption_certificate)} if wants_oaep else set())
        ),
        wrapping=profile.wrapping,
        header_protection=profile.header_protection,
        outer_subject=profile.outer_subject,
        smime_type_auth_enveloped=profile.smime_type_auth_enveloped,
        recipient_emails=profile.recipient_emails,
        binary=bool(said) and all("prefer-binary-inside" in each for each in said),
        derive_key=bool(said) and all("cek-hkdf-sha256" in each for each in said),
        legacy_display=any(
            addressee.contact is not None and addressee.contact.reads == "legacy" for addressee in addressees
        ),
    )
