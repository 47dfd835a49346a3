"""JWK, thumbprints and JWS against published values and an independent check."""

import base64
import hashlib
import hmac
import json

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from medmail_cli.cms.keys import SoftwareKey
from medmail_cli.pki.issuance import jose

D = "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"
X = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"
Y = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"
"""The P-256 key of RFC 7515, Appendix A.3.1."""
KEY = SoftwareKey(ec.derive_private_key(int.from_bytes(jose.decode(D), "big"), ec.SECP256R1()))


def test_a_key_as_rfc_7515_writes_it_and_its_thumbprint() -> None:
    assert jose.jwk(KEY) == {"crv": "P-256", "kty": "EC", "x": X, "y": Y}
    # RFC 7638 §3.3: the members in lexicographic order, no white space
    text = f'{{"crv":"P-256","kty":"EC","x":"{X}","y":"{Y}"}}'
    expected = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
    assert jose.thumbprint(KEY) == expected
    assert jose.key_authorization("token", KEY) == f"token.{expected}"


def test_leading_zeros_of_a_coordinate_stay() -> None:
    private = next(
        key
        for key in (ec.derive_private_key(n, ec.SECP256R1()) for n in range(1, 5000))
        if key.public_key().public_numbers().x < 1 << 248
    )
    assert len(jose.decode(jose.jwk(SoftwareKey(private))["x"])) == 32


@pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP384R1())])
def test_no_other_key_speaks_es256(key: ec.EllipticCurvePrivateKey) -> None:
    with pytest.raises(ValueError, match="P-256"):
        jose.jwk(SoftwareKey(key))


@given(
    st.binary(max_size=200), st.dictionaries(st.sampled_from(["url", "nonce", "kid"]), st.text(max_size=40))
)
def test_a_signature_verifies_over_what_was_sent_and_nothing_else(
    payload: bytes, header: dict[str, str]
) -> None:
    parts = json.loads(jose.sign(KEY, header, payload))
    assert json.loads(jose.decode(parts["protected"])) == {"alg": "ES256", **header}
    assert jose.decode(parts["payload"]) == payload
    raw = jose.decode(parts["signature"])
    assert len(raw) == 64
    der = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    public = KEY.public_key
    assert isinstance(public, ec.EllipticCurvePublicKey)
    signed = f"{parts['protected']}.{parts['payload']}".encode()
    public.verify(der, signed, ec.ECDSA(hashes.SHA256()))
    with pytest.raises(InvalidSignature):
        public.verify(der, signed + b"A", ec.ECDSA(hashes.SHA256()))


def test_hs256_of_rfc_7515() -> None:
    secret = jose.decode(
        "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"
    )
    parts = json.loads(jose.authenticate(secret, {"kid": "k"}, b"payload"))
    signed = f"{parts['protected']}.{parts['payload']}".encode()
    assert jose.decode(parts["signature"]) == hmac.new(secret, signed, hashlib.sha256).digest()


@given(st.binary(max_size=100))
def test_base64url_round_trip(data: bytes) -> None:
    assert jose.decode(jose.encode(data)) == data


@given(st.text(max_size=20))
def test_base64url_has_one_text_for_each_value(text: str) -> None:
    try:
        data = jose.decode(text)
    except ValueError:
        return
    assert jose.encode(data) == text
