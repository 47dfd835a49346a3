"""What each verb does from start to end: generators of events that end in a result.

They never print, prompt or read argv; what they need is handed in (``wiring`` builds it). They may import
``transport``, ``devices``, ``store`` and the pure rooms, and not ``session``. ``mail`` is letters, ``enrol``
identities, ``batch`` rosters, ``trust`` anchors, contacts and revocation; verbs of their own stand here.
"""
