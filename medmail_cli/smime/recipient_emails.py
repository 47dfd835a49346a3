"""Whom a letter was sealed for, in its signer's words: KIM's attribute recipient-emails (gemSMIME_KOMLE).

It stands beside the envelope, where anybody can write it, and among the signed attributes, where only the
signer can. A letter that its recipient seals anew for somebody else gives itself away there.
"""

import contextlib
from collections.abc import Iterable, Sequence

from cryptography import x509

from medmail_cli.cms import ber, der, identifiers
from medmail_cli.errors import MedmailError
from medmail_cli.model import Problem
from medmail_cli.pki.x509 import address

OID = "1.2.276.0.76.4.173"

_IA5_STRING = 0x16
_UTF8_STRING = 0x0C
_Named = frozenset[tuple[str, bytes]]


def values(named: Iterable[tuple[str, x509.Certificate]]) -> tuple[bytes, ...]:
    """The attribute's values: each address with the certificate that the letter is sealed for."""
    return tuple(
        der.sequence(
            der.tlv(_IA5_STRING if who.isascii() else _UTF8_STRING, who.encode()),
            identifiers.issuer_and_serial_of(certificate),
        )
        for who, certificate in named
    )


def check(
    signed: Sequence[ber.Node] | None, beside: Sequence[ber.Node] | None, own_addresses: Iterable[str]
) -> tuple[Problem, ...]:
    """What the signed attribute says against the other, and against being read by these addresses.

    Each is None where it is not there; without a signed one nothing is said.
    """
    if signed is None:
        return ()
    problems: list[Problem] = []
    meant = _named(signed)
    if beside is not None and (apart := meant ^ _named(beside)):
        problems.append(Problem("header-mismatch", ", ".join(sorted({who for who, _ in apart}))))
    own = {address.canonical(own_address) for own_address in own_addresses}
    if own and own.isdisjoint(who for who, _ in meant):
        problems.append(Problem("not-addressed-to-you", ", ".join(sorted(own))))
    return tuple(problems)


def _named(values: Sequence[ber.Node]) -> _Named:
    """Each address with its certificate's identifier, up to the first value that cannot be read."""
    named = set()
    with contextlib.suppress(MedmailError):
        for value in values:
            # the specification has a set in the set of values; senders leave one out
            for pair in value.elements() if value.tag == ber.SET else (value,):
                fields = pair.fields()
                who = bytes(fields.take().content).decode("utf-8", "replace")
                named.add((address.canonical(who), bytes(fields.take().raw)))
    return frozenset(named)
