"""Certificates, pure (RFC 5280): what they say, whether they hold, how one is asked for.

These are ``x509``, ``path`` and ``issuance``. May import ``cms`` alone. Where certificates lie is ``store``,
where they are fetched ``transport``.
"""
