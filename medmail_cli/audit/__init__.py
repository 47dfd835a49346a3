"""The audit log, pure: entries, Merkle tree, checkpoints, proofs (RFC 6962, C2SP tlog-checkpoint).

``entry`` is a line, ``tree`` the hashes, ``checkpoint`` what the log key signs, ``proof`` what others can
check, ``belief`` what the entries say of trust. Files are ``store.log``.
"""
