"""C2SP signed notes: the published ones are read, and one spelling only is accepted of ours."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medmail_cli.audit import checkpoint as cp
from medmail_cli.errors import MedmailError

# the checkpoint of https://c2sp.org/tlog-checkpoint
PUBLISHED = """example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
""".encode()  # noqa: E501

# a known key with its note, as Go's golang.org/x/mod/sumdb/note documents them
GO_SKEY = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
GO_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"

SIGNER = cp.LogSigner("medmail/0123456789abcdef", bytes(range(32)))
NOTE = cp.sign(cp.Checkpoint(SIGNER.name, 42, b"\x07" * 32), SIGNER)


def test_published_checkpoint() -> None:
    read = cp.parse(PUBLISHED)
    assert (read.origin, read.size, len(read.root)) == ("example.com/behind-the-sofa", 20852163, 32)


def test_published_key() -> None:
    signer = cp.parse_skey(GO_SKEY)
    assert signer.skey() == GO_SKEY
    assert signer.verifier.vkey() == GO_VKEY
    assert cp.parse_vkey(GO_VKEY) == signer.verifier
    assert "AYEK" not in repr(signer)
    assert repr(signer.seed) not in repr(signer)


def test_layout() -> None:
    text, blank, last = NOTE.decode().rpartition("\n\n")
    assert text == f"{SIGNER.name}\n42\nBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc="
    assert blank
    assert last.startswith(f"— {SIGNER.name} ")
    assert cp.verify(NOTE, SIGNER.verifier) == cp.Checkpoint(SIGNER.name, 42, b"\x07" * 32)


def test_every_changed_bit_is_refused() -> None:
    for place in range(len(NOTE)):
        for bit in range(8):
            changed = bytearray(NOTE)
            changed[place] ^= 1 << bit
            with pytest.raises(MedmailError):
                cp.verify(bytes(changed), SIGNER.verifier)


def test_every_changed_bit_of_a_key_is_refused() -> None:
    for text, read in ((SIGNER.skey(), cp.parse_skey), (SIGNER.verifier.vkey(), cp.parse_vkey)):
        for place in range(len(text)):
            for bit in range(7):
                changed = text[:place] + chr(ord(text[place]) ^ 1 << bit) + text[place + 1 :]
                with pytest.raises(MedmailError):
                    read(changed)


def test_every_truncation_is_refused() -> None:
    for end in range(len(NOTE)):
        with pytest.raises(MedmailError):
            cp.verify(NOTE[:end], SIGNER.verifier)


def test_a_witness_may_sign_beside_us() -> None:
    witness = cp.new_signer("witness.test")
    line = cp.sign(cp.Checkpoint(SIGNER.name, 42, b"\x07" * 32), witness).rpartition(b"\n\n")[2]
    assert cp.verify(NOTE + line, SIGNER.verifier).size == 42
    assert cp.verify(NOTE + line, witness.verifier).size == 42


def test_signed_by_another() -> None:
    with pytest.raises(MedmailError) as error:
        cp.verify(NOTE, cp.new_signer(SIGNER.name).verifier)
    assert error.value.code == "other-log"
    other = cp.sign(cp.Checkpoint(SIGNER.name, 43, b"\x07" * 32), SIGNER)
    swapped = other.rpartition(b"\n\n")[0] + b"\n\n" + NOTE.rpartition(b"\n\n")[2]
    with pytest.raises(MedmailError) as error:
        cp.verify(swapped, SIGNER.verifier)
    assert error.value.code == "bad-signature"


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\u2003b", "a\nb"])
def test_names_that_no_note_can_hold(name: str) -> None:
    with pytest.raises(ValueError):
        cp.new_signer(name)


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_garbage_is_malformed(data: bytes) -> None:
    with pytest.raises(MedmailError) as error:
        cp.parse(data)
    assert error.value.code == "malformed"


@given(st.integers(0, 10**18), st.binary(min_size=32, max_size=32))
def test_round_trip(size: int, root: bytes) -> None:
    written = cp.Checkpoint(SIGNER.name, size, root)
    assert cp.verify(cp.sign(written, SIGNER), SIGNER.verifier) == written
