"""Questions to DNS that the system's own look-up cannot ask, by the resolver that the system names."""

from collections.abc import Sequence

from medmail_cli.errors import MedmailError

SECONDS = 10.0
"""What one question may take in all, further tries included."""
MOST_TEXTS = 16


def texts(name: str, servers: Sequence[tuple[str, int]] = ()) -> tuple[bytes, ...]:
    """The TXT records of a name, the strings of each joined (RFC 1035 §3.3.14); none where there are none.

    ``servers`` are asked instead of the system's. Raises ``server-unreachable`` where nobody answers.
    """
    import dns.exception
    import dns.resolver

    try:
        resolver = dns.resolver.Resolver(configure=not servers)
        if servers:
            resolver.nameservers = [dns.nameserver.Do53Nameserver(*server) for server in servers]
        records = resolver.resolve(name, "TXT", lifetime=SECONDS, search=False)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return ()
    except (dns.exception.DNSException, OSError) as error:
        reason = "timed-out" if isinstance(error, dns.exception.Timeout) else type(error).__name__
        raise MedmailError("server-unreachable", host=f"DNS ({name})", reason=reason) from None
    return tuple(b"".join(record.strings) for record in list(records)[:MOST_TEXTS])
