"""The embedded operator on loopback: SMTP submission, IMAP, and a certificate authority that speaks EST.

For training, for the tour of ``medmail demo`` and for other people's scripts; never for real letters. It is
an optional extra (``medmail-cli[sandbox]``), and nothing but its command and the tour imports it.
"""


def require_extra() -> None:
    """Raises ``extra-missing`` where the servers' packages are not installed."""
    import importlib.util

    from medmail_cli.errors import MedmailError

    missing = [name for name in ("aiosmtpd", "pymap") if importlib.util.find_spec(name) is None]
    if missing:
        raise MedmailError("extra-missing", packages=missing, extra="sandbox")
