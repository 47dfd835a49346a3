"""What is neither file nor server: PKCS#11 tokens, the kernel's keyring, programs that are started.

May import the pure rooms. Which card holds an identity stands in ``store.keys``; passphrases and PINs are
asked for by ``session``.
"""
