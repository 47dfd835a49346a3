"""The one register of codes: what each leads to, and where it may be told.

A code is kebab-case and never translated. It stands in an error, among a verdict's problems, or in a note;
its words are in ``ui.error_messages`` (with an exit), ``ui.messages`` (notes of a run) and
``ui.views.decrypt`` (notes of a letter), and tests find one without. All else derives from here: exits, the
steps of ``decrypt --explain``, ``schema --errors``, the man page.
"""

from typing import Literal, NamedTuple

OK, FAILED, USAGE, PARTIAL, REFUSED, UNTRUSTED, INTEGRITY, DAMAGED = range(8)
TRY_LATER, CONFIGURATION, INTERRUPTED = 75, 78, 130


class Code(NamedTuple):
    """What a code leads to. ``exit`` is None for what is only ever noted."""

    exit: int | None = None
    steps: tuple[str, ...] = ()
    """The checks of ``decrypt --explain`` that it belongs to, beside those of certificates."""
    of_letter: bool = False
    """A verdict may note it, where it does not speak against the letter."""
    of_run: Literal["told", "advice"] | None = None
    """A run may note it and go on; advice is about what went well: off a terminal it is not told."""
    undecided: bool = False
    """As a problem it leaves a signature undecided rather than rejected."""


CODES: dict[str, Code] = {
    # 1: failed for a reason of its own
    "address-refused": Code(FAILED),
    "ca-redirected": Code(FAILED),
    "ca-rejected": Code(FAILED),
    "server-answer-malformed": Code(FAILED),
    "server-refused": Code(FAILED),
    "message-withheld": Code(FAILED),
    "folder-not-empty": Code(FAILED),
    "port-taken": Code(FAILED),
    "step-failed": Code(FAILED),
    "declined": Code(FAILED),
    "disk-full": Code(FAILED),
    "config-exists": Code(FAILED),
    "exists": Code(FAILED),
    "id-reused": Code(FAILED),
    "no-reply-address": Code(FAILED),
    "no-smtputf8": Code(FAILED),
    "recipient-refused": Code(FAILED),
    "faulty-manifest": Code(FAILED),
    "faulty-rows": Code(FAILED),
    "other-roster": Code(FAILED),
    "report-incomplete": Code(FAILED),
    "row-twice": Code(FAILED),
    "shard-twice": Code(FAILED),
    "shards-missing": Code(FAILED),
    "internal-error": Code(FAILED),
    "malformed": Code(FAILED, steps=("decryption",)),
    "nested-encryption": Code(FAILED),
    "no-key": Code(FAILED, steps=("decryption",)),
    "no-identity": Code(FAILED),
    "no-keystore": Code(FAILED),
    "ca-cannot-revoke": Code(FAILED),
    "no-signer": Code(FAILED),
    "no-certificate": Code(FAILED),
    "key-mismatch": Code(FAILED),
    "key-not-here": Code(FAILED),
    "key-on-card": Code(FAILED),
    "card-empty": Code(FAILED),
    "card-failed": Code(FAILED),
    "client-key-unusable": Code(FAILED),
    "expires-soon": Code(FAILED),
    "keystore-exists": Code(FAILED),
    "no-kernel-keyring": Code(FAILED),
    "newer-store": Code(FAILED),
    "not-found": Code(FAILED),
    "not-readable": Code(FAILED),
    "not-usable": Code(FAILED),
    "not-writable": Code(FAILED),
    "expanded-key-only": Code(FAILED),
    "other-container": Code(FAILED),
    "too-large": Code(FAILED),
    "unsafe-folder": Code(FAILED),
    "too-many-rounds": Code(FAILED),
    # 2: usage
    "bad-fingerprint": Code(USAGE),
    "insecure-url": Code(USAGE),
    "key-not-wanted": Code(USAGE),
    "editor-failed": Code(USAGE),
    "bad-address": Code(USAGE),
    "empty-letter": Code(USAGE),
    "ambiguous": Code(USAGE),
    "not-a-recipient": Code(USAGE),
    "ambiguous-digest": Code(USAGE),
    "ambiguous-identity": Code(USAGE),
    "address-not-on-card": Code(USAGE),
    "needs-address": Code(USAGE),
    "binary-to-terminal": Code(USAGE),
    "needs-confirmation": Code(USAGE),
    "nobody-chosen": Code(USAGE),
    "not-text": Code(USAGE),
    "output-is-input": Code(USAGE),
    "several-to-stdout": Code(USAGE),
    "spreadsheet": Code(USAGE),
    "stdin-twice": Code(USAGE),
    "usage": Code(USAGE),
    # 4: locked or refused
    "ca-refused": Code(REFUSED),
    "keystore-locked": Code(REFUSED),
    "card-absent": Code(REFUSED),
    "no-card-module": Code(REFUSED),
    "several-cards": Code(REFUSED),
    "wrong-pin": Code(REFUSED),
    "pin-locked": Code(REFUSED),
    "pin-last-try": Code(REFUSED),
    "pin-refused-before": Code(REFUSED),
    "pin-unset": Code(REFUSED),
    "login-expired": Code(REFUSED),
    "login-refused": Code(REFUSED),
    "client-certificate-refused": Code(REFUSED),
    "no-login-mechanism": Code(REFUSED),
    "no-secret": Code(REFUSED),
    "secret-unreadable": Code(REFUSED),
    "wrong-passphrase": Code(REFUSED),
    "wrong-p12-password": Code(REFUSED),
    "wrong-backup-passphrase": Code(REFUSED),
    "secret-command-failed": Code(REFUSED),
    # 5: not trusted (the codes of the verdict first)
    "no-signature": Code(UNTRUSTED, steps=("coverage",)),
    "untrusted-issuer": Code(UNTRUSTED),
    "expired": Code(UNTRUSTED),
    "not-yet-valid": Code(UNTRUSTED),
    "revoked": Code(UNTRUSTED),
    "revocation-unknown": Code(UNTRUSTED, of_letter=True, undecided=True),
    "wrong-key-usage": Code(UNTRUSTED),
    "wrong-extended-key-usage": Code(UNTRUSTED),
    "weak-key": Code(UNTRUSTED),
    "weak-algorithm": Code(
        UNTRUSTED,
        steps=(
            "decryption",
            "signature",
        ),
    ),
    "unsupported-algorithm": Code(
        UNTRUSTED,
        steps=(
            "decryption",
            "signature",
        ),
        undecided=True,
    ),
    "signer-is-not-sender": Code(UNTRUSTED, steps=("sender",)),
    "no-address-in-certificate": Code(UNTRUSTED, steps=("sender",)),
    "several-from": Code(UNTRUSTED, steps=("sender",)),
    "header-mismatch": Code(UNTRUSTED, steps=("headers",)),
    "not-addressed-to-you": Code(UNTRUSTED, steps=("addressee",), of_letter=True),
    "implausible-time": Code(UNTRUSTED, steps=("signature",)),
    "partly-signed": Code(UNTRUSTED, steps=("coverage",)),
    "content-twice": Code(UNTRUSTED, steps=("coverage",)),
    "unauthenticated-encryption": Code(UNTRUSTED, steps=("decryption",), of_letter=True),
    "ca-fingerprint-mismatch": Code(UNTRUSTED),
    "certificate-not-as-requested": Code(UNTRUSTED),
    "challenge-not-genuine": Code(UNTRUSTED),
    "server-untrusted": Code(UNTRUSTED),
    "untrusted-letter": Code(UNTRUSTED),
    "identity-unfit": Code(UNTRUSTED),
    "not-whitelisted": Code(UNTRUSTED),
    "not-post-quantum": Code(UNTRUSTED),
    "below-floor": Code(UNTRUSTED),
    "no-common-cipher": Code(UNTRUSTED),
    "no-recipient-certificate": Code(UNTRUSTED),
    # 6: the message's integrity
    "bad-signature": Code(INTEGRITY, steps=("signature",)),
    "bad-tag": Code(INTEGRITY, steps=("decryption",)),
    # 7: our own store
    "audit-damaged": Code(DAMAGED),
    "index-damaged": Code(DAMAGED),
    "message-damaged": Code(DAMAGED),
    "other-log": Code(DAMAGED),
    "log-key-damaged": Code(DAMAGED),
    "public-log-key-damaged": Code(DAMAGED),
    "store-damaged": Code(DAMAGED),
    "unlogged-trust": Code(DAMAGED),
    "revocations-missing": Code(DAMAGED),
    "own-revocations-missing": Code(DAMAGED),
    "trust-seal-broken": Code(DAMAGED),
    "backup-damaged": Code(DAMAGED),
    # 75: try later
    "ca-busy": Code(TRY_LATER),
    "ca-pending": Code(TRY_LATER),
    "server-busy": Code(TRY_LATER),
    "server-unreachable": Code(TRY_LATER),
    "store-busy": Code(TRY_LATER),
    "outcome-unknown": Code(TRY_LATER, of_run="told"),
    "letter-queued": Code(TRY_LATER, of_run="told"),
    "recipient-deferred": Code(TRY_LATER),
    # 78: configuration
    "bad-config": Code(CONFIGURATION),
    "extra-missing": Code(CONFIGURATION),
    "no-config": Code(CONFIGURATION),
    "no-account": Code(CONFIGURATION),
    "no-imap-server": Code(CONFIGURATION),
    "no-smtp-server": Code(CONFIGURATION),
    "no-authority": Code(CONFIGURATION),
    "no-starttls": Code(CONFIGURATION),
    "tls-failed": Code(CONFIGURATION),
    "wrong-security": Code(CONFIGURATION),
    # 130
    "interrupted": Code(INTERRUPTED),
    # notes alone: of a letter, then of a run
    "not-encrypted": Code(of_letter=True),
    "headers-unprotected": Code(steps=("headers",), of_letter=True),
    "replayed": Code(steps=("headers",), of_letter=True),
    "line-endings-repaired": Code(steps=("signature",), of_letter=True),
    "address-resembles": Code(steps=("sender",), of_letter=True, of_run="advice"),
    "mixed-scripts": Code(steps=("sender",), of_letter=True, of_run="advice"),
    "exec-failed": Code(of_run="told"),
    "watch-interrupted": Code(of_run="told"),
    "watch-sends-no-more": Code(of_run="told"),
    "possible-duplicate": Code(of_run="told"),
    "server-key-lost": Code(of_run="told"),
    "header-wanted": Code(of_run="told"),
    "retry-failed": Code(of_run="told"),
    "sent-copy-not-appended": Code(of_run="told"),
    "not-backed-up": Code(of_run="advice"),
    "not-answered": Code(of_run="told"),
    "text-kept": Code(of_run="told"),
    "address-pinned": Code(of_run="advice"),
    "certificate-without-key": Code(of_run="advice"),
    "identity-expired": Code(of_run="advice"),
    "identity-not-yet-valid": Code(of_run="advice"),
    "not-for-mail": Code(of_run="advice"),
    "signer-first": Code(of_run="advice"),
    "weak-identity": Code(of_run="advice"),
    "signs-only": Code(of_run="advice"),
    "request-waits": Code(of_run="advice"),
    "root-not-trusted": Code(of_run="advice"),
    "homes-trust-no-root": Code(of_run="advice"),
    "audit-closed": Code(of_run="told"),
    "audit-clock": Code(of_run="told"),
    "audit-none": Code(of_run="advice"),
    "audit-not-covered": Code(of_run="told"),
    "audit-torn": Code(of_run="told"),
    "anchor-adopted": Code(of_run="told"),
    "contact-adopted": Code(of_run="told"),
    "revocations-forgotten": Code(of_run="told"),
    "audit-repaired": Code(of_run="told"),
    "secret-readable": Code(of_run="advice"),
    "not-written": Code(of_run="told"),
}

EXITS: dict[str, int] = {name: code.exit for name, code in CODES.items() if code.exit is not None}
"""Of each code that ends something, the exit."""


def of_step(step: str) -> frozenset[str]:
    """The codes that belong to a check of ``decrypt --explain``."""
    return frozenset(name for name, code in CODES.items() if step in code.steps)
