"""Cryptographic Message Syntax, pure: octets, certificates and keys come in, values come out.

Reading goes from the outside in: ``ber.parse`` gives a node, ``content.content_type`` says what it holds,
then ``enveloped.parse_enveloped`` and ``decrypt``, or ``signed.parse_signed`` and ``check_signer``, or
``content.decompress``. Writing: ``signed.sign`` and ``enveloped.encrypt``. What an object identifier means
stands in ``algorithms``; ``keys.SoftwareKey`` is a private key in memory. What a certificate's key may do,
and whether it is too weak, says ``publickey``; what comes along to help path validation, ``enclosed``.
"""
