"""Messages of peers newer than those the matrix can run (tests/interop).

ML-DSA and ML-KEM of OpenSSL 3.6 and Bouncy Castle 1.86, the latter's X25519, X448, ChaCha20-Poly1305,
RSASSA-PSS over SHAKE and authenticated attributes, the key agreement of gpgsm 2.4 and NSS 3.132.
"""

import pytest

from medmail_cli.cms import ber, content, enveloped, signed, verify
from medmail_cli.cms.keys import SoftwareKey
from medmail_cli.errors import MedmailError
from tests.vectors import samples

FILE = "peers.pem"
TEXT = "Content-Type: text/plain; charset=utf-8\r\n\r\nChère consœur\r\n".encode()
MESSAGES = [heading for heading in samples.pems(FILE) if ": " in heading]


@pytest.mark.parametrize("heading", MESSAGES)
def test_message(heading: str) -> None:
    kind, _, made = heading.partition(": ")
    (pem,) = samples.pems(FILE)[heading]
    octets = samples.der_of(pem)
    node = ber.parse(octets)
    certificate = samples.certificate(FILE, kind)
    if content.content_type(node) == "signed-data":
        read = signed.parse_signed(node)
        (signer,) = read.signers
        assert bytes(read.content or b"") == TEXT
        assert verify.check_signer(read, signer, certificate) == ()
        assert verify.check_signer(read, signer, certificate, TEXT + b"!") == ("bad-signature",)
        return
    key = SoftwareKey(samples.key(FILE, kind))
    envelope = enveloped.parse_enveloped(node)
    found = enveloped.decrypt(envelope, [(certificate, key)])
    assert found.content == TEXT
    assert found.authenticated == ("cbc" not in made)
    assert found.algorithm in made
    assert bool(envelope.associated) == made.endswith("authenticated attributes")
    if found.authenticated:
        changed = octets.replace(envelope.tag, bytes(envelope.tag[:-1]) + bytes([envelope.tag[-1] ^ 1]))
        with pytest.raises(MedmailError) as refused:
            enveloped.decrypt(enveloped.parse_enveloped(ber.parse(changed)), [(certificate, key)])
        assert (refused.value.code, refused.value.facts) == ("bad-tag", {})


def test_every_kind_is_there() -> None:
    kinds = {heading.partition(":")[0] for heading in MESSAGES}
    assert kinds >= {"ml-dsa-44", "ml-dsa-65", "ml-dsa-87", "ml-kem-768", "ml-kem-1024", "x25519", "x448"}
    peers = {heading.partition(": ")[2].partition(",")[0] for heading in MESSAGES}
    assert peers == {"OpenSSL", "Bouncy Castle", "gpgsm 2.4", "NSS 3.132"}
