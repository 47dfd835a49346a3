"""RC2 against the test vectors of RFC 2268 section 5, and CBC against cryptography's."""

import secrets
import time
import warnings

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.modes import CBC

from medmail_cli.cms.rc2 import decrypt_cbc


@pytest.mark.parametrize(
    ("key", "bits", "plain", "encrypted"),
    [
        ("0000000000000000", 63, "0000000000000000", "ebb773f993278eff"),
        ("ffffffffffffffff", 64, "ffffffffffffffff", "278b27e42e2f0d49"),
        ("3000000000000000", 64, "1000000000000001", "30649edf9be7d2c2"),
        ("88", 64, "0000000000000000", "61a8a244adacccf0"),
        ("88bca90e90875a", 64, "0000000000000000", "6ccf4308974c267f"),
        ("88bca90e90875a7f0f79c384627bafb2", 64, "0000000000000000", "1a807d272bbe5db1"),
        ("88bca90e90875a7f0f79c384627bafb2", 128, "0000000000000000", "2269552ab0f85ca6"),
        ("88bca90e90875a7f0f79c384627bafb216f80a6f85920584c42fceb0be255daf1e", 129, "0000000000000000",
         "5b78d3a43dfff1f1"),
    ],
)  # fmt: skip
def test_published_vectors(key: str, bits: int, plain: str, encrypted: str) -> None:
    assert decrypt_cbc(bytes.fromhex(key), bits, bytes(8), bytes.fromhex(encrypted)).hex() == plain


@pytest.mark.parametrize("size", [8, 80, 1 << 16, (1 << 16) + 8, 3_000_000])
def test_chaining(size: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from cryptography.hazmat.decrepit.ciphers.algorithms import RC2
    key, vector, plain = secrets.token_bytes(16), secrets.token_bytes(8), secrets.token_bytes(size)
    encryptor = Cipher(RC2(key), CBC(vector)).encryptor()
    encrypted = encryptor.update(plain) + encryptor.finalize()
    begun = time.process_time()
    assert decrypt_cbc(key, 128, vector, memoryview(encrypted)) == plain
    assert time.process_time() - begun < 4
