"""Whom one believes: trust anchors, contacts' certificates, revocation.

``validator`` judges a certificate for a run, ``revocation_fetch`` gets what it lacks from servers,
``anchors`` and ``contacts`` are the verbs. The judgement itself is ``pki.path``, what is kept
``store.trust``.
"""
