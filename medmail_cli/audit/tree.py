"""The Merkle tree of RFC 6962 §2.1 over append-only stored hashes.

Every complete subtree's hash is stored once, in the order in which appending completes it: leaf 0,
leaf 1, node (0, 1), leaf 2, … A log of n leaves so has ``stored_count(n)`` hashes, nothing stored ever
changes, and roots and proofs need O(log n) of them. Hashes are 32 bytes (SHA-256); levels count from the
leaves (0); the hash at (level, number) covers the leaves ``number << level`` up to ``(number + 1) << level``.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from hashlib import sha256
from operator import itemgetter

HASH_SIZE = 32
EMPTY_ROOT = sha256(b"").digest()

ReadHash = Callable[[int], bytes]
"""Gives the stored hash at a position of the stored order."""


def leaf_hash(data: bytes) -> bytes:
    """The hash of an entry: SHA-256(0x00 ‖ data)."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of two subtrees: SHA-256(0x01 ‖ left ‖ right)."""
    return sha256(b"\x01" + left + right).digest()


def stored_count(size: int) -> int:
    """How many hashes are stored for a log of ``size`` leaves."""
    return 2 * size - size.bit_count()


def stored_index(level: int, number: int) -> int:
    """Where in the stored order the hash at (level, number) stands."""
    # a node is stored right after its last leaf's own chain of lower nodes
    last_leaf = ((number + 1) << level) - 1
    return stored_count(last_leaf) + level


def stored_place(index: int) -> tuple[int, int]:
    """The (level, number) of the hash at a stored position: the inverse of :func:`stored_index`."""
    leaf = index // 2
    while stored_count(leaf + 1) <= index:
        leaf += 1
    level = index - stored_count(leaf)
    return level, leaf >> level


def size_of_stored(count: int) -> int:
    """The largest log whose hashes are all among the first ``count`` stored ones."""
    size = count // 2
    while stored_count(size + 1) <= count:
        size += 1
    return size


_BULK = 8
"""Whole subtrees of 2 ** 8 leaves are hashed level by level, which takes a third of the time."""


def extend(size: int, frontier: Sequence[bytes], leaves: Sequence[bytes]) -> tuple[list[bytes], list[bytes]]:
    """Append leaf hashes: the new frontier, and the hashes to store, in stored order.

    The frontier of a log holds the hashes of its complete subtrees, largest first: one for each bit set in
    ``size``. Appending needs nothing else, which keeps it O(log n).
    """
    stack = list(frontier)
    stored: list[bytes] = []
    done = 0
    while done < len(leaves):
        if size % (1 << _BULK) == 0 and len(leaves) - done >= 1 << _BULK:
            level, hashes = _BULK, _complete(leaves[done : done + (1 << _BULK)])
        else:
            level, hashes = 0, (leaves[done],)
        stored += hashes
        stack.append(hashes[-1])
        remaining = size >> level
        while remaining & 1:
            right = stack.pop()
            node = sha256(b"\x01" + stack.pop() + right).digest()
            stack.append(node)
            stored.append(node)
            remaining >>= 1
        size += 1 << level
        done += 1 << level
    return stack, stored


def _complete(leaves: Sequence[bytes]) -> tuple[bytes, ...]:
    """The stored hashes of a complete subtree of ``2 ** _BULK`` leaves, in stored order."""
    hashes = list(leaves)
    level = hashes
    while len(level) > 1:
        level = [
            sha256(b"\x01" + left + right).digest()
            for left, right in zip(level[::2], level[1::2], strict=True)
        ]
        hashes += level
    return _stored_order()(hashes)


@cache
def _stored_order() -> Callable[[Sequence[bytes]], tuple[bytes, ...]]:
    """Brings hashes that stand level by level into stored order."""
    first = [(1 << _BULK + 1) - (1 << _BULK + 1 - level) for level in range(_BULK + 1)]
    places = map(stored_place, range(stored_count(1 << _BULK)))
    return itemgetter(*(first[level] + number for level, number in places))


def fold(frontier: Sequence[bytes]) -> bytes:
    """The root of the log whose complete subtrees have these hashes (largest first)."""
    if not frontier:
        return EMPTY_ROOT
    root = frontier[-1]
    for left in reversed(frontier[:-1]):
        root = node_hash(left, root)
    return root


def _subtrees(low: int, high: int) -> Iterable[tuple[int, int]]:
    """The complete subtrees (level, number) that leaves ``low`` to ``high`` consist of, left to right.

    ``low`` must be a multiple of the largest power of two not above ``high - low``.
    """
    while low < high:
        level = (high - low).bit_length() - 1
        yield level, low >> level
        low += 1 << level


def frontier(size: int, read: ReadHash) -> list[bytes]:
    """The frontier of the first ``size`` leaves, from stored hashes."""
    return [read(stored_index(level, number)) for level, number in _subtrees(0, size)]


def root(size: int, read: ReadHash) -> bytes:
    """The root of the first ``size`` leaves (MTH of RFC 6962 §2.1), from stored hashes."""
    return fold(frontier(size, read))


def _range_root(low: int, high: int, read: ReadHash) -> bytes:
    return fold([read(stored_index(level, number)) for level, number in _subtrees(low, high)])


def _split(width: int) -> int:
    """The largest power of two smaller than ``width``, where RFC 6962 divides a tree."""
    return 1 << ((width - 1).bit_length() - 1)


def inclusion_proof(index: int, size: int, read: ReadHash) -> list[bytes]:
    """PATH(index, D[size]) of RFC 6962 §2.1.1, from the leaf's sibling up to the root's child.

    Raises ValueError where the log of ``size`` leaves has no such index.
    """
    if not 0 <= index < size:
        raise ValueError("index outside the log")
    path: list[bytes] = []
    low, high = 0, size
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            path.append(_range_root(middle, high, read))
            high = middle
        else:
            path.append(_range_root(low, middle, read))
            low = middle
    path.reverse()
    return path


def consistency_proof(old: int, new: int, read: ReadHash) -> list[bytes]:
    """PROOF(old, D[new]) of RFC 6962 §2.1.2; empty where the sizes are equal or ``old`` is 0.

    Raises ValueError where ``old`` is larger than ``new``.
    """
    if not 0 <= old <= new:
        raise ValueError("the old log is larger than the new one")
    if old in {0, new}:
        return []
    path: list[bytes] = []
    low, high = 0, new
    while high != old:
        middle = low + _split(high - low)
        if old <= middle:
            path.append(_range_root(middle, high, read))
            high = middle
        else:
            path.append(_range_root(low, middle, read))
            low = middle
    if low:
        # the old root is not itself a subtree of the new one: the proof begins with its rest
        path.append(_range_root(low, high, read))
    path.reverse()
    return path


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root_hash: bytes) -> bool:
    """Whether ``proof`` shows the leaf hash at ``index`` in a log of ``size`` leaves (RFC 9162 §2.1.3.2)."""
    if not 0 <= index < size:
        return False
    number, last, current = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if number & 1 or number == last:
            current = node_hash(sibling, current)
            while not number & 1 and number:
                number >>= 1
                last >>= 1
        else:
            current = node_hash(current, sibling)
        number >>= 1
        last >>= 1
    return last == 0 and current == root_hash


def verify_consistency(old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes) -> bool:
    """Whether the log of ``old`` leaves is the beginning of that of ``new`` leaves (RFC 9162 §2.1.4.2)."""
    if not 0 <= old <= new:
        return False
    if old == new:
        return not proof and old_root == new_root
    if old == 0:
        return not proof and old_root == EMPTY_ROOT
    path = list(proof)
    if old & (old - 1) == 0:
        path.insert(0, old_root)
    if not path:
        return False
    number, last = old - 1, new - 1
    while number & 1:
        number >>= 1
        last >>= 1
    of_old = of_new = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if number & 1 or number == last:
            of_old, of_new = node_hash(sibling, of_old), node_hash(sibling, of_new)
            while not number & 1 and number:
                number >>= 1
                last >>= 1
        else:
            of_new = node_hash(of_new, sibling)
        number >>= 1
        last >>= 1
    return last == 0 and of_old == old_root and of_new == new_root
