"""RFC 6962 against published vectors and against its own recursive definition, written a second time."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medmail_cli.audit import tree

# the inputs and roots that implementations of Certificate Transparency test with
LEAVES = [
    bytes.fromhex(data)
    for data in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def split(n: int) -> int:
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def mth(d: list[bytes]) -> bytes:
    """MTH of §2.1."""
    if not d:
        return sha256().digest()
    if len(d) == 1:
        return sha256(b"\0" + d[0]).digest()
    k = split(len(d))
    return sha256(b"\1" + mth(d[:k]) + mth(d[k:])).digest()


def path(m: int, d: list[bytes]) -> list[bytes]:
    """PATH of §2.1.1."""
    if len(d) == 1:
        return []
    k = split(len(d))
    return [*path(m, d[:k]), mth(d[k:])] if m < k else [*path(m - k, d[k:]), mth(d[:k])]


def subproof(m: int, d: list[bytes], whole: bool) -> list[bytes]:
    """SUBPROOF of §2.1.2."""
    if m == len(d):
        return [] if whole else [mth(d)]
    k = split(len(d))
    if m <= k:
        return [*subproof(m, d[:k], whole), mth(d[k:])]
    return [*subproof(m - k, d[k:], whole=False), mth(d[:k])]


def stored(data: list[bytes], step: int | None = None) -> list[bytes]:
    """The stored hashes of a log, appended in groups of ``step``."""
    hashes: list[bytes] = []
    frontier: list[bytes] = []
    size = 0
    leaves = [tree.leaf_hash(one) for one in data]
    step = step or max(1, len(leaves))
    while size < len(leaves):
        group = leaves[size : size + step]
        frontier, new = tree.extend(size, frontier, group)
        hashes += new
        size += len(group)
    assert len(hashes) == tree.stored_count(len(leaves))
    return hashes


@pytest.mark.parametrize("size", range(9))
def test_published_roots(size: int) -> None:
    hashes = stored(LEAVES[:size])
    assert tree.root(size, hashes.__getitem__).hex() == ROOTS[size]


def test_published_inclusion_proof() -> None:
    hashes = stored(LEAVES)
    proof = tree.inclusion_proof(5, 8, hashes.__getitem__)
    assert [node.hex() for node in proof] == [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]


def test_stored_places_are_those_of_appending() -> None:
    order = []
    for leaf in range(700):
        order.append((0, leaf))
        level, number = 0, leaf
        while number & 1:
            level, number = level + 1, number >> 1
            order.append((level, number))
    for index, (level, number) in enumerate(order):
        assert tree.stored_index(level, number) == index
        assert tree.stored_place(index) == (level, number)
    for count in range(len(order)):
        size = tree.size_of_stored(count)
        assert tree.stored_count(size) <= count < tree.stored_count(size + 1)


sizes = st.integers(0, 70) | st.integers(250, 1100)


@given(size=sizes, step=st.integers(1, 600))
def test_grouping_changes_nothing(size: int, step: int) -> None:
    data = [b"%d" % i for i in range(size)]
    assert stored(data, step) == stored(data, 1)
    assert tree.root(size, stored(data).__getitem__) == mth(data)


@given(st.data())
def test_inclusion(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 130))
    index = data.draw(st.integers(0, size - 1))
    leaves = [b"%d" % i for i in range(size + 3)]
    proof = tree.inclusion_proof(index, size, stored(leaves).__getitem__)
    root = mth(leaves[:size])
    assert proof == path(index, leaves[:size])
    leaf = tree.leaf_hash(leaves[index])
    assert tree.verify_inclusion(leaf, index, size, proof, root)
    # anything else proves nothing
    assert not tree.verify_inclusion(tree.leaf_hash(b"x"), index, size, proof, root)
    assert not tree.verify_inclusion(leaf, index, size, [*proof, root], root)
    assert not tree.verify_inclusion(leaf, size, size, proof, root)
    other = data.draw(st.integers(0, size - 1))
    if other != index:
        assert not tree.verify_inclusion(leaf, other, size, proof, root)
    if proof:
        assert not tree.verify_inclusion(leaf, index, size, proof[:-1], root)
        at = data.draw(st.integers(0, len(proof) - 1))
        assert not tree.verify_inclusion(leaf, index, size, [*proof[:at], root, *proof[at + 1 :]], root)


@given(st.data())
def test_consistency(data: st.DataObject) -> None:
    new = data.draw(st.integers(0, 130))
    old = data.draw(st.integers(0, new))
    leaves = [b"%d" % i for i in range(new)]
    proof = tree.consistency_proof(old, new, stored(leaves).__getitem__)
    assert proof == (subproof(old, leaves, whole=True) if 0 < old < new else [])
    old_root, new_root = mth(leaves[:old]), mth(leaves)
    assert tree.verify_consistency(old, new, proof, old_root, new_root)
    assert not tree.verify_consistency(old, new, [*proof, b"\0" * 32], old_root, new_root)
    assert not tree.verify_consistency(old, new, proof, b"\0" * 32, new_root)
    if 0 < old < new:
        assert not tree.verify_consistency(old, new, proof, old_root, b"\0" * 32)
        assert not tree.verify_consistency(old, new, proof[:-1], old_root, new_root)
        changed = [b"x", *leaves[1:]]
        assert not tree.verify_consistency(old, new, proof, mth(changed[:old]), new_root)
    assert not tree.verify_consistency(new + 1, new, proof, old_root, new_root)


@given(st.integers(0, 40), st.integers(0, 40), st.lists(st.binary(min_size=32, max_size=32), max_size=8))
def test_invented_proofs_are_refused(a: int, b: int, proof: list[bytes]) -> None:
    assert not tree.verify_inclusion(b"\1" * 32, a, b, proof, b"\2" * 32)
    if a != b:
        assert not tree.verify_consistency(a, b, proof, b"\1" * 32, b"\2" * 32)


def test_outside_the_log() -> None:
    with pytest.raises(ValueError, match="outside"):
        tree.inclusion_proof(3, 3, list[bytes]().__getitem__)
    with pytest.raises(ValueError, match="larger"):
        tree.consistency_proof(4, 3, list[bytes]().__getitem__)
