"""What stands above a certificate among those that are at hand: no judgement, but what to send along."""

from collections.abc import Sequence

from cryptography import x509

from medmail_cli.pki.x509.certificate import facts, issued

_LONGEST_CHAIN = 10


def chain_of(certificate: x509.Certificate, pool: Sequence[x509.Certificate]) -> tuple[x509.Certificate, ...]:
    """What stands above ``certificate`` among ``pool``, nearest issuer first, as far as it goes."""
    chain: list[x509.Certificate] = []
    below = certificate
    while len(chain) < _LONGEST_CHAIN and not is_root(below):
        name = facts(below).issuer
        above = next(
            (c for c in pool if facts(c).subject == name and c not in chain and issued(below, c)), None
        )
        if above is None:
            break
        chain.append(above)
        below = above
    return tuple(chain)


def is_root(certificate: x509.Certificate) -> bool:
    """Whether the certificate is issued and signed by itself."""
    return facts(certificate).self_issued and issued(certificate, certificate)
