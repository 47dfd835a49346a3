"""People with certificates who write to each other, for tests of letters: one small world, no files."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from cryptography import x509

from medmail_cli.cms import enveloped, signed
from medmail_cli.cms.keys import SoftwareKey
from medmail_cli.pki.path.evidence import Enclosed
from medmail_cli.pki.path.validation import Authorities
from medmail_cli.smime import compose
from medmail_cli.smime.compose import Attachment, Letter
from medmail_cli.smime.fields import Mailbox
from medmail_cli.smime.open import Judgement, Opened, open_message
from medmail_cli.smime.policy import Policy
from medmail_cli.smime.protect import Signer, Style, protect
from tests.support import pki

NOW = dt.datetime(2026, 11, 22, 9, 30, tzinfo=dt.UTC)
PLAIN = Policy()
FILE = Attachment("Compte rendu – Élodie.pdf", "application/pdf", bytes(range(256)) * 40)


@dataclass(frozen=True)
class Person:
    """Somebody with an address, a certificate for all purposes, and its key."""

    address: str
    certificate: x509.Certificate
    raw_key: pki.Key

    @property
    def key(self) -> SoftwareKey:
        return SoftwareKey(self.raw_key)

    @property
    def signer(self) -> Signer:
        return Signer(self.key, self.certificate)

    @property
    def box(self) -> Mailbox:
        return Mailbox(self.address, self.address.partition("@")[0].title())


@cache
def authority(name: str) -> pki.Authority:
    return pki.make_ca(name)


@cache
def person(name: str, root: str = "Health Root", key_type: pki.KeyType = "p256", **options: Any) -> Person:
    """``alice`` gets alice@medecin.test from ``root``; the same arguments give the same person."""
    address = options.pop("address", f"{name}@medecin.test")
    certificate, key = pki.issue(authority(root), address, key_type=key_type, name=name, **options)
    return Person(address or f"{name}@medecin.test", certificate, key)


def letter(**changes: Any) -> Letter:
    """A letter from Alice to Bob."""
    values: dict[str, Any] = {
        "from_": person("alice").box,
        "to": (person("bob").box,),
        "subject": "Résultats de Mme Durand",
        "body": "Chère consœur,\n\nvoici les résultats.\n",
        "date": NOW,
        "message_id": "<1@medecin.test>",
    }
    return Letter(**values | changes)


def sealed(
    what: Letter | None = None, *, signer: str = "alice", to: Sequence[str] = ("bob",), **style: Any
) -> bytes:
    """The first message that protecting the letter gives."""
    recipients = {person(name).address: person(name).certificate for name in to}
    who = person(signer).signer
    return protect(what or letter(), signer=who, recipients=recipients, signed_at=NOW, style=Style(**style))[
        0
    ].message


def judge(certificate: x509.Certificate, enclosed: Enclosed) -> Judgement:
    """Trusts the one root; no CRLs are at hand and none are asked for."""
    authorities = Authorities([authority("Health Root").certificate])
    return authorities.judge(certificate, enclosed=enclosed, at=NOW, revocation="soft")


def opened(raw: bytes, reader: str | None = "bob", policy: Policy = PLAIN, **options: Any) -> Opened:
    """What ``reader`` makes of a message."""
    keys = [(person(reader).certificate, person(reader).key)] if reader else []
    own = [person(reader).address] if reader else []
    values: dict[str, Any] = {"keys": keys, "own_addresses": own, "policy": policy, "judge": judge, "at": NOW}
    return open_message(raw, id="0" * 64, source="test", **values | options)


def codes(result: Opened) -> list[str]:
    """The problem codes, in order."""
    return [problem.code for problem in result.verdict.problems]


OUTER = b"From: alice@medecin.test\r\nTo: bob@medecin.test\r\nSubject: outside\r\nMIME-Version: 1.0\r\n"
TEXT = b"Content-Type: text/plain\r\n\r\nHello\r\n"


def sign(content: bytes, who: str = "alice", *, detached: bool = False) -> bytes:
    """A signed entity, as a peer without header protection makes it."""
    alice = person(who)
    data = signed.sign(
        content, key=alice.key, certificate=alice.certificate, signed_at=NOW, detached=detached
    )
    if detached:
        return compose.multipart_signed(content, data, micalg="sha-256")
    return entity(data, "signed-data")


def encrypt(content: bytes, to: str = "bob", cipher: str = "aes-256-gcm") -> bytes:
    """An encrypted entity."""
    data = enveloped.encrypt(content, [person(to).certificate], cipher=cipher)  # type: ignore[arg-type]
    return entity(data, "authEnveloped-data" if cipher.endswith("gcm") else "enveloped-data")


def entity(data: bytes, smime_type: str) -> bytes:
    """A CMS body as a MIME entity."""
    head = compose.cms_headers("application/pkcs7-mime", smime_type, "smime.p7m")
    return b"".join([*head, b"\r\n", compose.base64_lines(data)])
