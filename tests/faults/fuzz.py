"""Coverage-guided fuzzing (atheris), outside CI: ``python -m tests.faults.fuzz TARGET CORPUS --runs N``.

Whatever octets come, nothing but MedmailError leaves our code, within a second and ten times the memory of
what came; and nothing is believed that was not signed. What libFuzzer finds worth keeping goes into CORPUS;
``tests/faults/corpus`` holds the best of it, replayed by ``test_corpus.py``.
"""

import argparse
import contextlib
import datetime as dt
import sys
import time
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path

from medmail_cli.errors import MedmailError

SECONDS = 1.0
"""Processor time that one input may take."""
FACTOR, BASE = 10, 4 << 20
"""Memory that one input may take: so many times its size, and so many octets besides."""
MEASURE_EVERY = 400
"""Memory is measured for one input in so many: measuring costs ten times the run."""

Target = Callable[[bytes], None]


def ber(data: bytes) -> None:
    """The reader, and DER made of what it read."""
    from medmail_cli.cms import ber, der

    node = ber.parse(data)
    again = der.canonical(node)
    assert der.canonical(ber.parse(again)) == again
    walk = [node]
    while walk:
        one = walk.pop()
        for read in (one.integer, one.oid, one.octets, one.bits, one.time):
            with contextlib.suppress(MedmailError):
                read()
        if one.constructed:
            walk += one.elements()


def cms(data: bytes) -> None:
    """All structures, with keys of every kind at hand."""
    from medmail_cli.cms import ber, content, enveloped, signed, verify
    from tests.support.people import person

    node = ber.parse(data)
    kind = content.content_type(node)
    if kind == "signed-data":
        read = signed.parse_signed(node)
        for info in read.signers:
            for certificate in read.certificates[:4]:
                found = verify.check_signer(read, info, certificate, None)
                assert found or read.content is not None
            for look in ("signed_at", "capabilities", "encryption_key_preference"):
                with contextlib.suppress(MedmailError):
                    getattr(info, look)
    elif kind in ("enveloped-data", "auth-enveloped-data"):
        keys = [(one.certificate, one.key) for one in map(person, KINDS)]
        enveloped.decrypt(enveloped.parse_enveloped(node), keys, allow_weak=True)
    elif kind == "compressed-data":
        content.decompress(node, 1 << 20)


def mail(data: bytes) -> None:
    """Whole messages: trusted only with a text that somebody signed."""
    from tests.support.letters import opened

    result = opened(data)
    assert not result.verdict.trusted or result.verdict.text in _texts()
    assert result.verdict.trusted == (not result.verdict.problems)


def header(data: bytes) -> None:
    """Header protection: the octets are what a trusted person signed, or signed and encrypted."""
    from tests.support.letters import OUTER, encrypt, opened, sign

    signed = sign(data)
    # the one or the other, as the rules for what stands outside differ: making them takes most of the time
    verdict = opened(OUTER + (encrypt(signed) if len(data) % 2 else signed)).verdict
    # whatever stands inside, what is shown as the sender is the signer where the letter is trusted
    assert not verdict.trusted or "alice@medecin.test" in (verdict.headers.from_ or "").lower()


def certificate(data: bytes) -> None:
    """Certificates, CRLs and OCSP responses as they stand in files and messages."""
    from medmail_cli.pki.path.evidence import Enclosed
    from medmail_cli.pki.path.ocsp import read_ocsp
    from medmail_cli.pki.path.validation import Authorities
    from medmail_cli.pki.x509.bundle import read_bundle
    from tests.support.letters import authority

    read_ocsp(data)
    found = read_bundle(data, "fuzzed")
    at = dt.datetime(2026, 11, 22, tzinfo=dt.UTC)
    root = authority("Health Root").certificate
    enclosed = Enclosed(found.certificates, found.crls, (data,))
    for one in found.certificates[:4]:
        judged = Authorities([root]).judge(one, enclosed=enclosed, at=at, known_now=at)
        assert not judged.trusted or one in _issued()


def fields(data: bytes) -> None:
    """Header fields of strangers."""
    from medmail_cli.smime import fields, outer, syntax

    text = data.decode("latin-1")
    fields.parse_mailboxes(text)
    fields.parse_parameters(text)
    fields.decode_words(text)
    syntax.parse_date(text)
    outer.outer(data)


TARGETS: dict[str, Target] = {
    "ber": ber,
    "cms": cms,
    "mail": mail,
    "header": header,
    "certificate": certificate,
    "fields": fields,
}
KINDS = ("rsa2048", "p256", "x25519", "ml-kem-768")


def _texts() -> set[str | None]:
    from tests.support.letters import letter

    return {"Hello\n", letter().body}


def _issued() -> set[object]:
    from tests.support.letters import authority, person

    return {authority("Health Root").certificate, person("alice").certificate, person("bob").certificate}


def seeds(target: str) -> list[bytes]:
    """Valid inputs to begin with; those that hold keys are made anew in every process."""
    from cryptography.hazmat.primitives.serialization import Encoding

    from medmail_cli.cms import enveloped, signed
    from tests.support import letters, pki
    from tests.support.people import LETTER, person

    alice = letters.person("alice")
    made = signed.sign(letters.TEXT, key=alice.key, certificate=alice.certificate, signed_at=letters.NOW)
    ciphers = ("aes-256-gcm", "chacha20-poly1305", "aes-256-cbc")
    sealed = [enveloped.encrypt(LETTER, [person(k).certificate], cipher=c) for k in KINDS for c in ciphers]  # type: ignore[arg-type]
    mails = [
        letters.sealed(),
        letters.sealed(cipher="aes-256-cbc"),
        letters.sealed(signature="detached", wrapping="message-rfc822"),
        letters.OUTER + letters.sign(letters.TEXT),
        letters.OUTER + letters.sign(letters.TEXT, detached=True),
        letters.OUTER + _PARTS,
    ]
    inside = letters.opened(letters.sealed()).content
    assert inside is not None
    root = letters.authority("Health Root")
    return {
        "ber": [made, *sealed, alice.certificate.public_bytes(Encoding.DER)],
        "cms": [made, *sealed],
        "mail": mails,
        "header": [bytes(inside.raw), letters.TEXT],
        "certificate": [
            pki.pem(alice.certificate, root.certificate),
            alice.certificate.public_bytes(Encoding.DER),
            pki.make_crl(root).public_bytes(Encoding.DER),
        ],
        "fields": [
            b"Alice <alice@medecin.test>, =?utf-8?q?Bob?= <bob@x.test>",
            b"a/b; c=\"d\"; e*0*=utf-8''f",
        ],
    }[target]


_PARTS = b"""MIME-Version: 1.0\r
Content-Type: multipart/mixed; boundary=b\r
\r
--b\r
Content-Type: text/html; charset=iso-8859-1\r
Content-Transfer-Encoding: quoted-printable\r
\r
<style>.h {display: none}</style><table><tr><td colspan=3D2>10<sup>9</sup>/L<td>l=92=\r
<tr><td class=3Dh>a</table><ol start=3D3><li><s style=3D"color: red">b</s></ol><p hidden>c&frac12;\r
--b\r
Content-Type: application/pdf; name*0*=utf-8''a%20; name*1=b.pdf\r
Content-Transfer-Encoding: base64\r
\r
QQ==QUI=\r
--b--\r
"""


def checked(target: Target, data: bytes) -> float:
    """Run one input; its processor seconds. Fails for what takes too long, or raises another error."""
    begun = time.process_time()
    with contextlib.suppress(MedmailError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        target(data)
    taken = time.process_time() - begun
    if taken > SECONDS:
        begun = time.process_time()  # once more: the machine may have been busy
        with contextlib.suppress(MedmailError):
            target(data)
        taken = time.process_time() - begun
    assert taken <= SECONDS, f"{taken:.1f} s for {len(data)} octets"
    return taken


def peak(target: Target, data: bytes) -> int:
    """The most memory that one input takes, in octets."""
    tracemalloc.start()
    try:
        checked(target, data)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def main() -> None:
    """Fuzz one target; prints runs, runs a second, the slowest input and the largest memory."""
    import atheris

    parser = argparse.ArgumentParser()
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--length", type=int, default=8192)
    asked = parser.parse_args()
    asked.corpus.mkdir(parents=True, exist_ok=True)
    with atheris.instrument_imports(include=["medmail_cli"]):
        for module in _MODULES:
            __import__(module)
    for number, seed in enumerate(seeds(asked.target)):
        (asked.corpus / f"seed-{number}").write_bytes(seed)
    target = TARGETS[asked.target]
    begun, done, slowest, most = time.monotonic(), 0, 0.0, 0

    def one(data: bytes) -> None:
        nonlocal done, slowest, most
        done += 1
        slowest = max(slowest, checked(target, data))
        if done % MEASURE_EVERY == 0:
            used = peak(target, data)
            most = max(most, used)
            assert used <= FACTOR * len(data) + BASE, f"{used} octets of memory for {len(data)}"
        if done == asked.runs or done % 100_000 == 0:
            rate = done / (time.monotonic() - begun)
            sys.stderr.write(
                f"{asked.target}: {done} runs, {rate:.0f} a second, "
                f"slowest {slowest * 1000:.0f} ms, most memory {most >> 10} KiB\n"
            )

    atheris.Setup(
        [
            sys.argv[0], str(asked.corpus), f"-runs={asked.runs}", f"-max_len={asked.length}",
            "-timeout=30", "-rss_limit_mb=2048", "-verbosity=0", f"-artifact_prefix={asked.corpus}/crash-",
        ],
        one,
    )  # fmt: skip
    atheris.Fuzz()


_MODULES = (
    "medmail_cli.cms.enveloped", "medmail_cli.cms.signed", "medmail_cli.cms.content",
    "medmail_cli.pki.path.validation", "medmail_cli.pki.x509.bundle", "medmail_cli.pki.path.ocsp",
    "medmail_cli.smime.open", "medmail_cli.smime.outer", "medmail_cli.smime.html",
)  # fmt: skip

if __name__ == "__main__":
    main()
