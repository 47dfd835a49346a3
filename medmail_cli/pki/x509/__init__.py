"""What stands in certificates and key files: names, addresses, usages, extensions, PKCS#8, PKCS#12.

Nothing here judges: whether to believe a certificate is ``pki.path``.
"""
