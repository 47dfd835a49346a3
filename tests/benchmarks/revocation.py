"""Judging a chain against CRLs of 100,000 entries, warm and from files, with OpenSSL's library and command.

``warm`` is one chain more in a process that holds the CRLs, each with another certificate, all signatures
and the CRL's entry looked up; ``cold`` is parsing the CRL, verifying its signature and judging one chain.
"""

import datetime as dt
import statistics
import tempfile
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from medmail_cli.pki.path.validation import Authorities
from tests.benchmarks._measure import process, report, seconds
from tests.support import libcrypto, pki

ENTRIES, PEOPLE = 100_000, 200


def big_crl(issuer: pki.Authority, now: dt.datetime) -> x509.CertificateRevocationList:
    """A list of strangers' serial numbers."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(now - dt.timedelta(hours=1))
        .next_update(now + dt.timedelta(days=7))
        .add_extension(x509.CRLNumber(7), critical=False)
    )
    # one entry at a time the builder copies all that it has: the list is set as a whole
    builder._revoked_certificates = [
        x509.RevokedCertificateBuilder()
        .serial_number((1 << 150) + number * 7919)
        .revocation_date(now - dt.timedelta(days=30))
        .build()
        for number in range(ENTRIES)
    ]
    return builder.sign(issuer.key, hashes.SHA256())  # type: ignore[arg-type]


def der(certificate: x509.Certificate | x509.CertificateRevocationList) -> bytes:
    """DER."""
    return certificate.public_bytes(Encoding.DER)


def median(run: Callable[[], object], runs: int = 11) -> float:
    """Seconds; the first run is left out."""
    run()
    return statistics.median(seconds(run) for _ in range(runs))


def main() -> None:
    """All figures."""
    now = dt.datetime.now(dt.UTC)
    root = pki.make_ca("Bench Root", key_type="rsa4096")
    issuing = pki.make_ca("Bench Issuing", parent=root, key_type="rsa2048")
    people = [pki.issue(issuing, f"dr{n}@medecin.test", key_type="p256")[0] for n in range(PEOPLE)]
    above, own = der(pki.make_crl(root)), der(big_crl(issuing, now))
    print(f"a CRL of {ENTRIES} entries, {len(own) / 1e6:.1f} MB; RSA-4096 root, RSA-2048 issuer")

    def loaded() -> Authorities:
        crls = [x509.load_der_x509_crl(one) for one in (above, own)]
        return Authorities([root.certificate], [issuing.certificate], crls)

    def judged(authorities: Authorities, certificate: bytes) -> None:
        assert authorities.judge(x509.load_der_x509_certificate(certificate), at=now).trusted

    def theirs() -> Callable[[bytes], None]:
        return libcrypto.judging([der(root.certificate)], [der(issuing.certificate)], [above, own])

    def over(judge: Callable[[bytes], None]) -> Callable[[], None]:
        turn: Iterator[bytes] = cycle(map(der, people))
        return lambda: judge(next(turn))

    authorities, peer = loaded(), theirs()
    warm = median(over(lambda one: judged(authorities, one)), PEOPLE - 1)
    report("warm, one chain more / libcrypto", warm, median(over(peer), PEOPLE - 1), 5)
    cold = median(lambda: judged(loaded(), der(people[0])))
    report("cold, CRL parsed and verified / libcrypto", cold, median(lambda: theirs()(der(people[0]))), 1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = {"root": root.certificate, "issuing": issuing.certificate, "one": people[0]}
        for what, certificate in files.items():
            (folder / f"{what}.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
        crl = x509.load_der_x509_crl(own)
        (folder / "crl.pem").write_bytes(crl.public_bytes(Encoding.PEM))
        command = process(
            "openssl", "verify", "-crl_check", "-CAfile", f"{folder}/root.pem", "-untrusted",
            f"{folder}/issuing.pem", "-CRLfile", f"{folder}/crl.pem", f"{folder}/one.pem",
        )  # fmt: skip
        report("cold / a process of openssl verify -crl_check", cold, median(command), 1)


if __name__ == "__main__":
    main()
