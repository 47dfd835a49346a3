"""Whom one believes, on disk: trust anchors, contacts, revocation lists and what is remembered of them.

What stands here counts only as far as the audit log says so (``believed``). How it is judged is ``pki.path``,
how it gets here ``workflows.trust``.
"""
