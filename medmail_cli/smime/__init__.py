"""Letters, pure: composing and opening S/MIME messages, header protection, the verdict (RFC 8551, 9788).

``open`` goes through a message's ``layers`` to one ``verdict``, ``compose`` and ``protect`` make a message;
``mime``, ``fields``, ``transfer``, ``charsets`` and ``html`` read what strangers wrote. May import ``cms``
and ``pki``: octets, certificates and the time come in, values go out.
"""
