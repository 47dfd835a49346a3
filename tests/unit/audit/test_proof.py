"""A proof is checked here as a stranger would: from the text of C2SP's tlog-proof, with nothing of ours."""

import base64
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from medmail_cli.audit import checkpoint as cp
from medmail_cli.audit import proof as pf
from medmail_cli.audit import tree
from medmail_cli.errors import MedmailError

SIGNER = cp.LogSigner("medmail/0123456789abcdef", bytes(range(32)))
LINES = [b'{"index":%d}' % i for i in range(11)]


def make(index: int, size: int = 11) -> pf.Proof:
    _, stored = tree.extend(0, [], [tree.leaf_hash(line) for line in LINES])
    note = cp.sign(cp.Checkpoint(SIGNER.name, size, tree.root(size, stored.__getitem__)), SIGNER)
    return pf.Proof(LINES[index], index, tuple(tree.inclusion_proof(index, size, stored.__getitem__)), note)


@pytest.mark.parametrize("index", range(11))
def test_as_a_stranger_checks_it(index: int) -> None:
    text = pf.encode(make(index)).decode()
    head, body, signature = text.split("\n\n")
    magic, extra, number, *hashes = head.split("\n")
    assert magic == "c2sp.org/tlog-proof@v1"
    assert number == f"index {index}"
    origin, size, root = body.split("\n")
    # signature over the checkpoint's text
    name, encoded = signature.removeprefix("— ").split(" ")
    key_name, _, key = SIGNER.verifier.vkey().split("+", 2)
    assert name == origin == key_name
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(key)[1:])
    public.verify(base64.b64decode(encoded)[4:], (body + "\n").encode())
    # from the leaf to the root, by the tree's shape alone
    path = [base64.b64decode(one) for one in hashes]

    def climb(low: int, high: int, leaf: bytes) -> bytes:
        if high - low == 1:
            return leaf
        k = 1
        while k * 2 < high - low:
            k *= 2
        other = path.pop()
        if index < low + k:
            return sha256(b"\1" + climb(low, low + k, leaf) + other).digest()
        return sha256(b"\1" + other + climb(low + k, high, leaf)).digest()

    leaf = sha256(b"\0" + base64.b64decode(extra.removeprefix("extra "))).digest()
    assert climb(0, int(size), leaf) == base64.b64decode(root)
    assert not path


@pytest.mark.parametrize("index", [0, 3, 10])
def test_round_trip(index: int) -> None:
    proof = pf.parse(pf.encode(make(index)))
    assert proof == make(index)
    assert pf.verify(proof, SIGNER.verifier).size == 11


def test_every_changed_byte_is_refused_or_changes_nothing() -> None:
    good = pf.encode(make(4))
    for place in range(len(good)):
        changed = bytearray(good)
        changed[place] ^= 1
        try:
            read = pf.parse(bytes(changed))
            pf.verify(read, SIGNER.verifier)
        except MedmailError as error:
            assert error.code in {"malformed", "bad-signature", "other-log"}  # noqa: PT017
        else:
            # base64 spells some values in two ways
            assert read == make(4)


@given(st.binary(max_size=200))
def test_garbage_is_malformed(data: bytes) -> None:
    for prefix in (b"", b"c2sp.org/tlog-proof@v1\n", b"c2sp.org/tlog-proof@v1\nextra AA==\nindex 0\n"):
        try:
            proof = pf.parse(prefix + data)
            with pytest.raises(MedmailError):
                pf.verify(proof, SIGNER.verifier)
        except MedmailError as error:
            assert error.code == "malformed"  # noqa: PT017
