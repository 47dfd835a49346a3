"""Giving a stored letter's encryption another recipient, everything within it staying as it came."""

from collections.abc import Iterable
from dataclasses import dataclass

from cryptography import x509

from medmail_cli.cms import rewrap as cms
from medmail_cli.cms.enveloped import parse_enveloped
from medmail_cli.errors import MedmailError
from medmail_cli.model import PrivateKey
from medmail_cli.smime.layers import Keys, outer_envelope, unwrap, with_cms
from medmail_cli.smime.unwrapped import Unwrapped

Pair = tuple[x509.Certificate, PrivateKey]


@dataclass(frozen=True)
class Recipients:
    """For whom a letter is encrypted: which of one's own certificates, and how many entries there are."""

    own: tuple[x509.Certificate, ...]
    count: int


def recipients(raw: bytes, certificates: Iterable[x509.Certificate]) -> Recipients | None:
    """For whom a letter's outermost layer is encrypted; None where it is no encryption.

    Raises ``malformed``.
    """
    envelope = outer_envelope(raw)
    if envelope is None:
        return None
    entries = parse_enveloped(envelope[1]).recipients
    own = tuple(
        certificate for certificate in certificates if any(entry.id.names(certificate) for entry in entries)
    )
    return Recipients(own, len(entries))


def is_encrypted(raw: bytes) -> bool:
    """Whether there is an encryption among the layers that can be seen without a key."""
    return "encrypted" in unwrap(raw, ()).layers


def opens(raw: bytes, keys: Keys) -> bool:
    """Whether ``keys`` open all the layers of a letter."""
    return unwrap(raw, keys, allow_weak=True).failure is None


def rewrap(raw: bytes, keys: Keys, recipient: Pair) -> bytes:
    """The letter as only ``recipient`` can open it.

    Header, ciphertext and what it holds stay to the octet, so every signature inside and every weakness of
    the encryption is what it was; only who can open it is another. What comes out has been opened with the
    recipient's key and compared. Raises what opening the letter with ``keys`` does, and
    ``nested-encryption`` where an encryption stands inside another layer, which could not be kept.
    """
    before = _opened(raw, keys)
    envelope = outer_envelope(raw)
    if envelope is None:
        raise MedmailError("nested-encryption")
    entity, node = envelope
    fresh = with_cms(entity, cms.rewrap(node, keys, recipient[0]))
    if before.repaired:  # lines that ended in CR alone still do, and are still told of
        fresh = fresh.replace(b"\r\n", b"\r")
    try:
        after = _opened(fresh, [recipient])
    except MedmailError as error:
        if error.code != "no-key":
            raise
        raise MedmailError("nested-encryption") from None
    if before.decrypted and after.decrypted and before.decrypted.weak != after.decrypted.weak:
        # a weak key wrap is what the verdict speaks of; with it gone nobody would know
        raise MedmailError("weak-algorithm")
    if _said(before) != _said(after):
        # a key that did not unwrap is replaced by a random one, whose noise may pass for padding once
        raise MedmailError("bad-tag")
    return fresh


def _opened(raw: bytes, keys: Keys) -> Unwrapped:
    opened = unwrap(raw, keys, allow_weak=True)
    if opened.failure is not None:
        raise opened.failure
    return opened


def _said(opened: Unwrapped) -> tuple[object, ...]:
    """All that a verdict could rest on, the recipient apart."""
    signature, payload, how = opened.signature, opened.payload, opened.decrypted
    return (
        opened.layers,
        opened.outer,
        payload and bytes(payload.raw),
        signature and bytes(signature.over),
        signature and signature.detached,
        how and (how.algorithm, how.authenticated),
        opened.repaired,
    )
