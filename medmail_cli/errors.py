"""The one exception that reaches a user, and the one table from code to exit.

An error is raised where the fact is known, with a kebab-case code and the facts; its words are in
``ui/words.py`` and only ``app`` turns it into an exit. Verdict problems stand in the same table.
"""

from collections.abc import Iterable


class MedmailError(Exception):
    """Something the user has to hear of.

    ``code`` is kebab-case and never translated, ``facts`` fill the words' placeholders and must never
    hold a secret or anything from inside a letter.
    """

    def __init__(self, code: str, /, **facts: object) -> None:
        if code not in EXITS:
            raise LookupError(f"error code without an exit: {code}")
        super().__init__(code)
        self.code = code
        self.facts = facts

    def __str__(self) -> str:
        facts = ", ".join(f"{name}={value}" for name, value in self.facts.items())
        return f"{self.code} ({facts})" if facts else self.code


class NothingAttemptedError(MedmailError):
    """An error before the first effect, though items may have been told of (faulty rows, no certificate)."""


def exit_of(code: str) -> int:
    """The process exit that belongs to an error or problem code."""
    return EXITS[code]


def combine(exits: Iterable[int]) -> int:
    """One exit for several items: their common one if they end alike, else 3 (partial)."""
    distinct = set(exits)
    if len(distinct) > 1:
        return PARTIAL
    return distinct.pop() if distinct else 0


OK, FAILED, USAGE, PARTIAL, REFUSED, UNTRUSTED, INTEGRITY, DAMAGED = range(8)
TRY_LATER, CONFIGURATION, INTERRUPTED = 75, 78, 130

EXITS: dict[str, int] = {
    # 1: failed for a reason of its own
    "address-refused": FAILED,
    "ca-redirected": FAILED,
    "ca-rejected": FAILED,
    "server-answer-malformed": FAILED,
    "server-refused": FAILED,
    "message-withheld": FAILED,
    "folder-not-empty": FAILED,
    "port-taken": FAILED,
    "step-failed": FAILED,
    "declined": FAILED,
    "disk-full": FAILED,
    "config-exists": FAILED,
    "exists": FAILED,
    "id-reused": FAILED,
    "no-reply-address": FAILED,
    "no-smtputf8": FAILED,
    "recipient-refused": FAILED,
    "faulty-manifest": FAILED,
    "faulty-rows": FAILED,
    "other-roster": FAILED,
    "report-incomplete": FAILED,
    "row-twice": FAILED,
    "shard-twice": FAILED,
    "shards-missing": FAILED,
    "internal-error": FAILED,
    "malformed": FAILED,
    "nested-encryption": FAILED,
    "no-key": FAILED,
    "no-identity": FAILED,
    "no-keystore": FAILED,
    "ca-cannot-revoke": FAILED,
    "no-signer": FAILED,
    "no-certificate": FAILED,
    "key-mismatch": FAILED,
    "key-not-here": FAILED,
    "key-on-card": FAILED,
    "card-empty": FAILED,
    "card-failed": FAILED,
    "client-key-unusable": FAILED,
    "expires-soon": FAILED,
    "keystore-exists": FAILED,
    "no-kernel-keyring": FAILED,
    "newer-store": FAILED,
    "not-found": FAILED,
    "not-readable": FAILED,
    "not-usable": FAILED,
    "not-writable": FAILED,
    "expanded-key-only": FAILED,
    "other-container": FAILED,
    "too-large": FAILED,
    "unsafe-folder": FAILED,
    "too-many-rounds": FAILED,
    # 2: usage
    "bad-fingerprint": USAGE,
    "insecure-url": USAGE,
    "key-not-wanted": USAGE,
    "editor-failed": USAGE,
    "bad-address": USAGE,
    "empty-letter": USAGE,
    "ambiguous": USAGE,
    "not-a-recipient": USAGE,
    "ambiguous-digest": USAGE,
    "ambiguous-identity": USAGE,
    "address-not-on-card": USAGE,
    "needs-address": USAGE,
    "binary-to-terminal": USAGE,
    "needs-confirmation": USAGE,
    "nobody-chosen": USAGE,
    "not-text": USAGE,
    "output-is-input": USAGE,
    "several-to-stdout": USAGE,
    "spreadsheet": USAGE,
    "stdin-twice": USAGE,
    "usage": USAGE,
    # 4: locked or refused
    "ca-refused": REFUSED,
    "keystore-locked": REFUSED,
    "card-absent": REFUSED,
    "no-card-module": REFUSED,
    "several-cards": REFUSED,
    "wrong-pin": REFUSED,
    "pin-locked": REFUSED,
    "pin-last-try": REFUSED,
    "pin-refused-before": REFUSED,
    "pin-unset": REFUSED,
    "login-expired": REFUSED,
    "login-refused": REFUSED,
    "client-certificate-refused": REFUSED,
    "no-login-mechanism": REFUSED,
    "no-secret": REFUSED,
    "secret-unreadable": REFUSED,
    "wrong-passphrase": REFUSED,
    "wrong-p12-password": REFUSED,
    "wrong-backup-passphrase": REFUSED,
    "secret-command-failed": REFUSED,
    # 5: not trusted (the codes of the verdict first)
    "no-signature": UNTRUSTED,
    "untrusted-issuer": UNTRUSTED,
    "expired": UNTRUSTED,
    "not-yet-valid": UNTRUSTED,
    "revoked": UNTRUSTED,
    "revocation-unknown": UNTRUSTED,
    "wrong-key-usage": UNTRUSTED,
    "wrong-extended-key-usage": UNTRUSTED,
    "weak-key": UNTRUSTED,
    "weak-algorithm": UNTRUSTED,
    "unsupported-algorithm": UNTRUSTED,
    "signer-is-not-sender": UNTRUSTED,
    "no-address-in-certificate": UNTRUSTED,
    "several-from": UNTRUSTED,
    "header-mismatch": UNTRUSTED,
    "not-addressed-to-you": UNTRUSTED,
    "implausible-time": UNTRUSTED,
    "partly-signed": UNTRUSTED,
    "content-twice": UNTRUSTED,
    "unauthenticated-encryption": UNTRUSTED,
    "ca-fingerprint-mismatch": UNTRUSTED,
    "certificate-not-as-requested": UNTRUSTED,
    "challenge-not-genuine": UNTRUSTED,
    "server-untrusted": UNTRUSTED,
    "untrusted-letter": UNTRUSTED,
    "identity-unfit": UNTRUSTED,
    "not-whitelisted": UNTRUSTED,
    "not-post-quantum": UNTRUSTED,
    "below-floor": UNTRUSTED,
    "no-common-cipher": UNTRUSTED,
    "no-recipient-certificate": UNTRUSTED,
    # 6: the message's integrity
    "bad-signature": INTEGRITY,
    "bad-tag": INTEGRITY,
    # 7: our own store
    "audit-damaged": DAMAGED,
    "index-damaged": DAMAGED,
    "message-damaged": DAMAGED,
    "other-log": DAMAGED,
    "log-key-damaged": DAMAGED,
    "public-log-key-damaged": DAMAGED,
    "store-damaged": DAMAGED,
    "unlogged-trust": DAMAGED,
    "revocations-missing": DAMAGED,
    "own-revocations-missing": DAMAGED,
    "trust-seal-broken": DAMAGED,
    "backup-damaged": DAMAGED,
    # 75: try later
    "ca-busy": TRY_LATER,
    "ca-pending": TRY_LATER,
    "server-busy": TRY_LATER,
    "server-unreachable": TRY_LATER,
    "store-busy": TRY_LATER,
    "outcome-unknown": TRY_LATER,
    "letter-queued": TRY_LATER,
    "recipient-deferred": TRY_LATER,
    # 78: configuration
    "bad-config": CONFIGURATION,
    "extra-missing": CONFIGURATION,
    "no-config": CONFIGURATION,
    "no-account": CONFIGURATION,
    "no-imap-server": CONFIGURATION,
    "no-smtp-server": CONFIGURATION,
    "no-authority": CONFIGURATION,
    "no-starttls": CONFIGURATION,
    "tls-failed": CONFIGURATION,
    "wrong-security": CONFIGURATION,
    # 130
    "interrupted": INTERRUPTED,
}
"""Every code a user can meet, with its exit. Words for each stand in ``ui/words.py``."""
