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
    found = [one for one in keystore.identities() if one.state == "active" and speaks_for(one, name)]
    if not found:
        raise MedmailError("no-identity", address=name)
    return found


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
    for one in identities:
        if one.sha256 in keystore.revoked():
            yield enrolment("unchanged", one)
            continue
        try:
            _revoke(keystore, believed, run, authority(one), one, reason)
        except MedmailError as error:
            if len(identities) == 1:
                raise
            yield replace(enrolment("failed", one), code=error.code, exit=exit_of(error.code))
        else:
            yield enrolment("revoked", one)


def _revoke(
    keystore: "Keystore",
    believed: "Believed",
    run: "RunContext",
    ca: Revoking | None,
    one: "Identity",
    reason: Reason,
) -> None:
    if one.certificate is None or one.sha256 is None:
        raise MedmailError("not-found", what="certificate", name=one.address)
    if ca is None:
        serial = f"{one.certificate.serial_number:x}"
        raise MedmailError("ca-cannot-revoke", address=one.address, serial=serial)
    with logged(run.acting(one.address), "enrol-revoke", (one.sha256,), authority=ca.url, reason=reason):
        ca.revoke(one.certificate, reason)
        add_revoked(keystore.folder, one.sha256)
        # the log after the file: more than it says may stand there, never less
        believed.remember_revoked(one.sha256)
