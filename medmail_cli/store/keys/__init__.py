"""The keystore: a master key under a passphrase, and what it seals.

``keystore`` is locked, ``unlocked`` open; ``identity`` is a key with its certificate and what became of it,
``seal`` the form of checked files, ``backup`` the way out and back. Who gets an identity is
``workflows.enrol``; certificates of others are ``store.trust``.
"""
