"""The sentences behind codes: notes, questions, reasons, things; those of errors are in :mod:`.errors`."""


def N_(sentence: str) -> str:  # noqa: N802 - gettext's own name for "to be translated later"
    """Mark a sentence for the catalogue without translating it yet."""
    return sentence


NOTES: dict[str, str] = {
    "exec-failed": N_("the command “{command}” failed: {reason}"),
    "watch-interrupted": N_("{account}: {error}; trying again in {seconds} seconds"),
    "watch-sends-no-more": N_(
        "{account}: the password was refused too often, nothing more is sent for it; fetching goes on"
    ),
    "letter-queued": N_(
        "what was not accepted is safe in the outbox; `medmail outbox flush` sends it, not `send`"
    ),
    "outcome-unknown": N_(
        "it is not known whether {address} has the letter {message_id}; it will be sent again"
    ),
    "possible-duplicate": N_(
        "{address} may have got the letter {message_id} twice: an earlier attempt broke off"
    ),
    "server-key-lost": N_(
        "a request of {date} for a key of {address} broke off: {authority} may have made one that nobody "
        "holds; it should revoke any certificate of that request"
    ),
    "header-wanted": N_(
        "the network of the profile {profile} wants {header} in each letter, and there is none: put the "
        "reference that your product was given under [headers] in config.toml"
    ),
    "retry-failed": N_("letters waiting in the outbox could not be sent now ({error})"),
    "sent-copy-not-appended": N_("the copy could not be put into {folder} on the server ({error})"),
    "not-backed-up": N_(
        "no backup holds the new key of {addresses}: `medmail keys backup` makes one, --no-backup wants none"
    ),
    "not-answered": N_(
        "{address} is not answered: the letter's signature does not cover its recipients, so anybody on the "
        "way may have added them; write to them with `medmail send`"
    ),
    "text-kept": N_("not sent; what you wrote is kept in {path}"),
    "address-pinned": N_(
        "the certificate does not bear {address}; recipients will see that signer and sender differ"
    ),
    "certificate-without-key": N_("the certificate of “{subject}” was left out: its key is not there"),
    "identity-expired": N_(
        "the certificate of {address} ended on {date}; it opens old mail and signs no more"
    ),
    "identity-not-yet-valid": N_("the certificate of {address} is valid only from {date}"),
    "not-for-mail": N_("the certificate of {address} is not meant for e-mail by its extended key usage"),
    "signer-first": N_(
        "the {key} key of {address} can be asked for once the certificate of the one that signs is here; run "
        "this again then"
    ),
    "weak-identity": N_(
        "the {key} key of {address} is too weak: nobody who looks will trust what it signs; enrol another"
    ),
    "signs-only": N_(
        "the certificate of {address} only signs, so nobody can encrypt to it; for two certificates set "
        'certificates = "two" in the profile'
    ),
    "request-waits": N_("a request for {address} with a {key} key is waiting already; it is used"),
    "root-not-trusted": N_(
        "the root “{subject}” is no trust anchor of yours yet; compare its fingerprint {sha256} with the one "
        "its authority published, then run this again with --ca-fingerprint {sha256}"
    ),
    "homes-trust-no-root": N_(
        "the root “{subject}” is no trust anchor of yours, so the homes made now do not trust it either; to "
        "hand it out, compare its fingerprint {sha256} with the one its authority published, and start with "
        "--ca-fingerprint"
    ),
    "address-resembles": N_("{address} looks like {other}, which you know, but is another address"),
    "mixed-scripts": N_("{address} mixes letters of several scripts, as look-alike addresses do"),
    "audit-closed": N_("{count} actions that an earlier run left unfinished are marked as interrupted"),
    "audit-clock": N_("the clock went back {count} times, first at entry {entry}"),
    "audit-none": N_("nothing was logged yet in {path}"),
    "audit-not-covered": N_("the last {count} entries are not covered by a checkpoint yet"),
    "audit-torn": N_("the last write was torn ({bytes} bytes); the next run cuts it off"),
    "anchor-adopted": N_(
        "taken over from before trust stood in the audit log: the anchor {subject} ({sha256})"
    ),
    "contact-adopted": N_(
        "taken over from before trust stood in the audit log: {address} with the certificate {sha256}"
    ),
    "revocations-forgotten": N_("what was remembered of a revocation list is forgotten: {path}"),
    "audit-repaired": N_("the audit log's last write was torn; {bytes} bytes of it were cut off"),
    "secret-readable": N_(
        "everybody on this machine can read {path}, which holds the {secret}; chmod 600 it"
    ),
    "not-written": N_("{source} is not trusted and not written; --accept-untrusted writes it all the same"),
}
"""Code of a note to its sentence."""

QUESTIONS: dict[str, str] = {
    "no-backup": N_(
        "No backup holds the new key of {addresses}; if it is lost, nobody opens letters to it. Do without?"
    ),
    "acme-terms": N_("Agree to the authority's terms of service, {url}?"),
    "answer-added": N_(
        "The letter's signature does not cover its recipients, so anybody on the way may have added "
        "{addresses}. Answer them too?"
    ),
    "drop": N_("give up the letter {id} to {addresses}, which has not been sent?"),
    "trust-root": N_(
        "Trust “{subject}” as an anchor? Its authority published this fingerprint, if it is genuine: {sha256}"
    ),
    "revoke": N_("Revoke the certificates {serials} of {address}? This cannot be taken back"),
    "delete-identity": N_(
        "Delete the key of {address} ({id})? Letters encrypted for it alone can never be opened again"
    ),
}
"""Code of a question to its sentence."""

SECRETS: dict[str, str] = {
    "mac-key": N_("MAC key of the account at the authority"),
    "passphrase": N_("Passphrase of the keystore"),
    "new-passphrase": N_("Passphrase of the keystore"),
    "password": N_("Password of the mailbox"),
    "p12-password": N_("Password of the PKCS#12 file"),
    "pin": N_("PIN of the card"),
    "backup-passphrase": N_("Passphrase of the backup"),
    "token": N_("Access token"),
}
"""A secret to what its prompt says."""

FAULTS: dict[str, str] = {
    "bad-address": N_("no address that mail could reach"),
    "bad-encoding": N_("letters that are not in the file's encoding"),
    "bad-quoting": N_("quotation marks that do not close"),
    "bad-rpps": N_("an RPPS has eleven digits"),
    "column-missing": N_("this column is missing"),
    "column-twice": N_("this column is there twice"),
    "control-character": N_("a control character"),
    "duplicate-address": N_("the same address as in an earlier line"),
    "no-address": N_("no address"),
    "rpps-key": N_("the key of the RPPS is wrong"),
    "too-long": N_("longer than 64 characters"),
    "too-many-fields": N_("more fields than the header"),
}
"""What is wrong with a row of a roster."""

REASONS: dict[str, str] = {
    "another-owner": N_("it belongs to somebody else"),
    "link": N_("it is a link"),
    "world-writable": N_("everybody may change what is in it"),
    "key-type": N_("TLS has no use for its kind"),
    "no-openssl": N_("this Python lets no key sign from outside"),
    "refused-by-openssl": N_("OpenSSL refused it"),
    "no-such-key": N_("the key is not on it any more"),
    "none-found": N_("this machine has none"),
    "cut-off": N_("the connection was cut off"),
    "empty": N_("it printed nothing"),
    "excluded": N_("{key} and {other} exclude each other"),
    "missing": N_("{key} is missing"),
    "not-a-duration": N_("{key}: “{value}” is no duration such as 15m, 2h or 30d"),
    "not-a-table": N_("{key} must be a table"),
    "not-a-proxy": N_("the proxy's address is not understood"),
    "not-a-header": N_("{key} is no header field that can be added"),
    "not-a-header-value": N_("{key}: its value must be a printable text of 500 characters at most"),
    "not-an-address": N_("{key}: “{value}” is no mail address"),
    "not-one-of": N_("{key} must be one of: {expected}"),
    "not-toml": N_("this is not TOML: {detail}"),
    "not-utf-8": N_("this is not UTF-8"),
    "unknown-key": N_("unknown key {key} (nearest: {nearest})"),
    "unreadable": N_("the file cannot be read: {detail}"),
    "certificate-missing": N_("it wants a certificate to log in with, and was shown none that it takes"),
    "certificate-expired": N_("the one it was shown has expired"),
    "certificate-revoked": N_("the one it was shown is revoked"),
    "certificate-issuer": N_("it does not know the authority behind the one it was shown"),
    "certificate-bad": N_("it does not accept the one it was shown"),
    "outlook-msg": N_("it is a file of Outlook's, .msg; save the letter as .eml there"),
    "winmail-dat": N_("it is a file of Outlook's, winmail.dat; ask its sender for the letter without it"),
    "not-tls": N_("what answers there does not speak TLS"),
    "not-http": N_("the answer is not HTTP"),
    "tls-broken": N_("the TLS connection failed ({detail})"),
    "tls-refused": N_("it breaks the handshake off ({detail})"),
    "tls-too-old": N_("it speaks only versions of TLS older than 1.2"),
    "tls-too-weak": N_("it offers no encryption that is strong enough ({detail})"),
    "timed-out": N_("no answer in time"),
    "unknown-host": N_("no machine of that name is known"),
    "name-lookup-failed": N_("its name cannot be looked up now"),
    "unfit": N_("it does not hold up ({problem})"),
    "reply-elsewhere": N_("it wants the answer elsewhere, and its sender is not proven"),
    "several-challenges": N_("there are several, and which one is meant cannot be told"),
    "unproven": N_("neither S/MIME nor DKIM proves its sender"),
    "wrong-challenge": N_("it is not as a challenge mail must be ({fault})"),
    "wrong-key": N_("it is for another key"),
    "wrong-name": N_("it does not bear {address}"),
    "wrong-type": N_("{key} must be of type {expected}"),
}
"""Reasons that a message's ``{reason}`` may name."""

THINGS = (
    N_("audit entry"),
    N_("audit log"),
    N_("salt"),
    N_("authority"),
    N_("certificate"),
    N_("checkpoint"),
    N_("command"),
    N_("contact"),
    N_("entry"),
    N_("file"),
    N_("folder"),
    N_("identity"),
    N_("log key"),
    N_("message"),
    N_("proof"),
    N_("queued letter"),
    N_("verifier key"),
    N_("waiting certificate"),
)
"""What a message's ``{what}`` may name; anything else is a name and shown as it is."""

UNITS = (N_("messages"), N_("entries"), N_("bytes"), N_("recipients"), N_("people"))
"""What progress counts."""

LIBRARY = (
    N_("(deprecated) "),
    N_("[default: {}]"),
    N_("[env var: {}]"),
    N_("[required]"),
    N_("Arguments"),
    N_("Options"),
    N_("Commands"),
    N_("Missing command."),
    N_("No such command {name!r}."),
)
"""What the command library says; it asks the same catalogue."""
