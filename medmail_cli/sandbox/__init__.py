"""The embedded operator on loopback: SMTP submission, IMAP, and a certificate authority that speaks EST.

For training, for the tour of ``medmail demo`` and for other people's scripts; never for real letters. It is
an optional extra (``medmail-cli[sandbox]``), and nothing but its command and the tour imports it.
"""
