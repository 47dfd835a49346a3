"""Whether a certificate is to be believed: path validation (RFC 5280 §6), policies, revocation.

``validation`` finds the path and judges it, ``fitness`` each certificate on it, ``revocation`` with ``crl``
and ``ocsp`` whether it was withdrawn, ``evidence`` is what came along. What certificates say is
``pki.x509``; lists and answers are fetched by ``workflows.trust.revocation_fetch``.
"""
