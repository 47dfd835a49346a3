"""Identities: how one person gets, renews, keeps and gives back keys and certificates.

``authority`` is what whoever makes certificates looks like; ``issuing`` asks one, ``import_files``, ``card``
and ``server_key`` take keys from elsewhere. Many people at once are ``workflows.batch``, the protocols
``transport`` (est, cmp, acme), requests and answers ``pki.issuance``, keys on disk ``store.keys``.
"""
