"""What an EST authority gives out where it makes the key, as far as a hostile one can send it."""

import base64

import pytest

from medmail_cli.cms import algorithms, der, enveloped
from medmail_cli.cms.keys import SoftwareKey
from medmail_cli.errors import MedmailError
from medmail_cli.transport import serverkey
from tests.support import pki


def signed_data(content: bytes) -> bytes:
    """A SignedData around ``content`` that nobody signed."""
    inside = der.sequence(der.oid(algorithms.DATA), der.tlv(0xA0, der.octet_string(content)))
    body = der.sequence(der.integer(1), der.set_of([]), inside, der.set_of([]))
    return der.sequence(der.oid(algorithms.SIGNED_DATA), der.tlv(0xA0, body))


def test_a_key_in_a_thousand_signatures_is_refused() -> None:
    nested = b""
    for _ in range(1500):
        nested = signed_data(nested)
    certificate, key = pki.issue(pki.make_ca("Root"), "a@x.test", "encrypt", "p256")
    sealed = base64.b64encode(enveloped.encrypt(nested, [certificate]))
    body = b"--b\r\nContent-Type: application/pkcs7-mime\r\n\r\n" + sealed + b"\r\n--b--\r\n"
    with pytest.raises(MedmailError) as caught:
        serverkey.read(
            body, "multipart/mixed; boundary=b", [(certificate, SoftwareKey(key))], base64.b64decode
        )
    assert caught.value.code == "malformed"
