"""``medmail enrol revoke``: the authority is asked to take a certificate back; here it signs nothing more."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, Protocol

from medmail_cli.errors import MedmailError, exit_of
from medmail_cli.store.keys.own_revoked import add_revoked
from medmail_cli.workflows.audited import logged
from medmail_cli.workflows.enrol.certified import Enrolment, enrolment, speaks_for

if TYPE_CHECKING:
    from cryptography import x509

    from medmail_cli.store.keys.identity import Identity
    from medmail_cli.store.keys.keystore import Keystore
    from medmail_cli.store.log.run import RunContext
    from medmail_cli.store.trust.believed import Believed

Reason = Literal["unspecified", "keyCompromise", "affiliationChanged", "superseded", "cessationOfOperation"]
"""CRLReason (RFC 5280 §5.3.1), as far as a holder may say it."""


class Revoking(Protocol):
    """An authority that takes certificates back (CMP, ACME)."""

    url: str

    def revoke(self, certificate: "x509.Certificate", reason: Reason, /) -> None:
        """Have it revoked; one that is revoked already is no error. Raises ``ca-…``, ``server-…``."""


def chosen(keystore: "Keystore", name: str) -> "list[Identity]":
    """The identities in use of an address, or the one of an id. Raises ``no-identity``, ``not-found``."""
    if "@" not in name:
        return [keystore.find(name)]
    identities = [
        identity
        for identity in keystore.identities()
        if identity.state == "active" and speaks_for(identity, name)
    ]
    if not identities:
        raise MedmailError("no-identity", address=name)
    return identities


def enrol_revoke(
    keystore: "Keystore",
    believed: "Believed",
    run: "RunContext",
    authority: "Callable[[Identity], Revoking | None]",
    identities: "list[Identity]",
    reason: Reason,
) -> Iterator[Enrolment]:
    """Have every certificate revoked by the authority that gave it; None for one that cannot be asked.

    Raises ``ca-cannot-revoke`` and what asking raises, where there is only one.
    """
    for identity in identities:
        if identity.sha256 in keystore.revoked():
            yield enrolment("unchanged", identity)
            continue
        try:
            _revoke(keystore, believed, run, authority(identity), identity, reason)
        except MedmailError as error:
            if len(identities) == 1:
                raise
            yield replace(enrolment("failed", identity), code=error.code, exit=exit_of(error.code))
        else:
            yield enrolment("revoked", identity)


def _revoke(
    keystore: "Keystore",
    believed: "Believed",
    run: "RunContext",
    ca: Revoking | None,
    identity: "Identity",
    reason: Reason,
) -> None:
    if identity.certificate is None or identity.sha256 is None:
        raise MedmailError("not-found", what="certificate", name=identity.address)
    if ca is None:
        serial = f"{identity.certificate.serial_number:x}"
        raise MedmailError("ca-cannot-revoke", address=identity.address, serial=serial)
    with logged(
        run.acting(identity.address), "enrol-revoke", (identity.sha256,), authority=ca.url, reason=reason
    ):
        ca.revoke(identity.certificate, reason)
        add_revoked(keystore.folder, identity.sha256)
        # the log after the file: more than it says may stand there, never less
        believed.remember_revoked(identity.sha256)
