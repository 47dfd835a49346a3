"""What ACME needs of JOSE: a P-256 key as a JWK, its thumbprint, and flattened JWS (RFC 7515, 7517, 7638)."""

import base64
import binascii
import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

if TYPE_CHECKING:
    from medmail_cli.model import PrivateKey

_OCTETS = 32
"""Of a P-256 coordinate, and of each half of a signature (RFC 7518 §3.4, §6.2.1)."""
_BASE64URL = re.compile(r"[A-Za-z0-9_-]*\Z")


def encode(data: bytes) -> str:
    """Base64url without padding (RFC 7515 §2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    """The octets behind base64url without padding; anything else in it raises ValueError."""
    if not _BASE64URL.match(text):
        raise ValueError("base64url")
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        raise ValueError("base64url") from None
    if encode(data) != text:
        raise ValueError("base64url")  # bits that no octet holds: two texts would be one value
    return data


def jwk(key: "PrivateKey") -> dict[str, str]:
    """The public half of a P-256 key as a JWK (RFC 7518 §6.2). Raises ValueError for any other key."""
    public = key.public_key
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
        raise ValueError("not a P-256 key")  # noqa: TRY004 - one exception for every key that does not fit
    numbers = public.public_numbers()
    x, y = (encode(number.to_bytes(_OCTETS, "big")) for number in (numbers.x, numbers.y))
    return {"crv": "P-256", "kty": "EC", "x": x, "y": y}


def thumbprint(key: "PrivateKey") -> str:
    """SHA-256 over the JWK's required members in order, base64url (RFC 7638 §3)."""
    return encode(hashlib.sha256(_compact(jwk(key))).digest())


def key_authorization(token: str, key: "PrivateKey") -> str:
    """What proves that the holder of the account key was given ``token`` (RFC 8555 §8.1)."""
    return f"{token}.{thumbprint(key)}"


def sign(key: "PrivateKey", header: Mapping[str, Any], payload: bytes) -> bytes:
    """A flattened JWS by ES256 (RFC 7515 §7.2.2, RFC 7518 §3.4); ``header`` is all protected."""

    def signature(signed: bytes) -> bytes:
        r, s = decode_dss_signature(key.sign(signed, "ecdsa-sha256"))
        return r.to_bytes(_OCTETS, "big") + s.to_bytes(_OCTETS, "big")

    protected, body = encode(_compact({"alg": "ES256", **header})), encode(payload)
    return _flattened(protected, body, signature(f"{protected}.{body}".encode()))


def authenticate(secret: bytes, header: Mapping[str, Any], payload: bytes) -> bytes:
    """A flattened JWS by HS256, as an external account binding wants it (RFC 8555 §7.3.4)."""
    protected, body = encode(_compact({"alg": "HS256", **header})), encode(payload)
    return _flattened(protected, body, hmac.digest(secret, f"{protected}.{body}".encode(), "sha256"))


def _flattened(protected: str, payload: str, signature: bytes) -> bytes:
    return _compact({"payload": payload, "protected": protected, "signature": encode(signature)})


def _compact(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
