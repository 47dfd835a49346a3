"""Who makes certificates, as the verbs see it, and who asks."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from cryptography import x509

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

    from medmail_cli.model import Memory, PrivateKey


class Authority(Protocol):
    """Who makes certificates, by one of the registered protocols; by hand there is no such object."""

    @property
    def method(self) -> str:
        """How it is spoken to: one of the registered protocols."""

    url: str

    def anchors(self) -> tuple[x509.Certificate, ...]:
        """Its roots, checked against the fingerprint given, if any."""

    def key_kinds(self) -> tuple[str, ...]:
        """The kinds of keys that it says it certifies, none where it does not say."""

    def enrol(
        self, csr: x509.CertificateSigningRequest, key: "PrivateKey", memory: "Memory", /
    ) -> tuple[x509.Certificate, ...]:
        """The certificate for a request and those above it. Raises ``ca-…`` and ``server-…``.

        ``key`` is the one that signed the request; ``memory`` outlives a kill.
        """

    def renew(
        self, csr: x509.CertificateSigningRequest, key: "PrivateKey", memory: "Memory", /
    ) -> tuple[x509.Certificate, ...]:
        """The same for the holder of a certificate with the same names."""

    def close(self) -> None:
        """End the connection; the next question opens another."""


@runtime_checkable
class MailProving(Authority, Protocol):
    """An authority that proves addresses by mail, and makes an account of one's own first (ACME)."""

    def sign_up(self, contact: str, /) -> None:
        """Have the account at hand before many ask at once; ``contact`` is its address."""


@runtime_checkable
class KeyMaker(Authority, Protocol):
    """An authority that makes keys for others (EST's serverkeygen)."""

    def generate(
        self,
        csr: x509.CertificateSigningRequest,
        key: "PrivateKey",
        opens: "Sequence[tuple[x509.Certificate, PrivateKey]]",
        /,
    ) -> "tuple[PrivateKeyTypes, tuple[x509.Certificate, ...]]":
        """A key, and its certificate with those above it; encrypted for one of ``opens`` if there is one."""


@dataclass(frozen=True)
class Subject:
    """Who asks for a certificate, as the request shall say."""

    address: str
    name: str = ""
    rpps: str = ""
