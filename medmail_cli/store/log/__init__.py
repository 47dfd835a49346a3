"""The audit log on disk: an append-only file of entries with the hashes of its Merkle tree.

``writer`` appends, ``checkpoints`` holds its key and signs what was appended, ``reader`` reads and verifies,
``reserve`` keeps room for it. What an entry, a tree and a checkpoint are is ``audit``, pure.
"""
