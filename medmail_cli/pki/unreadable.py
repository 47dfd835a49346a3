"""What ``cryptography`` raises for certificates and CRLs that break the rules."""

from medmail_cli.cms.certificates import REFUSED as UNREADABLE

__all__ = ["UNREADABLE"]
