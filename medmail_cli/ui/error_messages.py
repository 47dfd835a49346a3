"""The sentences of errors: what happened, and what to do."""

from medmail_cli.ui.messages import N_

ERRORS: dict[str, tuple[str, str]] = {
    "bad-address": (N_("“{address}” is no mail address"), ""),
    "editor-failed": (N_("the editor {editor} cannot be run: {reason}"), N_("set VISUAL or EDITOR")),
    "empty-letter": (
        N_("there is nothing to send: not sent"),
        N_("give a file with the text, or - for stdin"),
    ),
    "faulty-manifest": (N_("faulty lines in the manifest: {count}; nothing was sent"), ""),
    "faulty-rows": (
        N_("faulty rows in the roster: {count}; nothing was requested"),
        N_("correct them, or --skip-faulty enrols the others"),
    ),
    "other-roster": (
        N_("{path} is about another roster, or another part of it"),
        N_("join the shards of one run: the same roster, the same --only"),
    ),
    "report-incomplete": (
        N_("{path} is no whole report"),
        N_("run its shard again; what is done already is not done twice"),
    ),
    "row-twice": (N_("{address} stands in two reports"), N_("join the shards of one run")),
    "shard-twice": (N_("{path} and {other} are of the same shard"), N_("give each shard's report once")),
    "shards-missing": (
        N_("the reports of the shards {shards} are missing, or shards were counted differently"),
        N_("give one report for each shard"),
    ),
    "id-reused": (
        N_("the id “{key}” was used for a letter with other content"),
        N_("a letter that differs needs an id of its own"),
    ),
    "letter-queued": (
        N_("{host} cannot be reached ({reason}); the letter is safe in the outbox"),
        N_("run `medmail outbox flush` later, not `medmail send`"),
    ),
    "no-recipient-certificate": (
        N_("no acceptable certificate is known for {addresses}; nothing was sent"),
        N_(
            "`medmail contacts add` takes one, `contacts invite` asks for it, --partial leaves them out;"
            " where the profile allows it, --transport-only ADDR sends to them without"
        ),
    ),
    "no-signer": (
        N_("nobody vouches for the {key} key of {address}: no key signs for that address yet"),
        N_("enrol one that signs first, then run this again"),
    ),
    "ca-cannot-revoke": (
        N_("the authority of {address} takes no such request; nothing was revoked"),
        N_("tell the authority in its own way, soon if others know the key; the serial is {serial}"),
    ),
    "no-reply-address": (N_("the letter names nobody to answer"), ""),
    "no-smtp-server": (N_("the account “{account}” names no SMTP server"), N_("add it to config.toml")),
    "no-smtputf8": (N_("the server cannot carry the address {address}"), ""),
    "no-starttls": (
        N_("{host} offers no TLS, and nothing is sent in the clear"),
        N_("check the port and `security` in config.toml; something between may be removing the offer"),
    ),
    "not-post-quantum": (
        N_("no ML-KEM certificate is known for {addresses}; nothing was sent"),
        N_("leave --post-quantum out, or --partial leaves them out; `medmail enrol import` takes your own"),
    ),
    "below-floor": (
        N_("{addresses} read only ciphers weaker than the profile allows; nothing was sent"),
        N_("`medmail contacts set ADDR --reads modern` if they read more by now; --partial leaves them out"),
    ),
    "no-common-cipher": (
        N_("no cipher is read by all of {addresses}; nothing was sent"),
        N_("send each a letter of their own"),
    ),
    "identity-unfit": (
        N_("a certificate of your own, for {address}, cannot be used: {problem}; nothing was sent"),
        N_("`medmail enrol renew {address}` gets another one"),
    ),
    "not-a-recipient": (
        N_("{address} is no recipient of this letter; nothing was sent"),
        N_("--transport-only takes the recipients' addresses"),
    ),
    "not-whitelisted": (N_("{addresses} are outside the network's whitelist; nothing was sent"), ""),
    "outcome-unknown": (
        N_("the connection broke before the server said whether it took the letter to {address}"),
        N_("the letter is in the outbox; `medmail outbox flush` sends it again under the same Message-ID"),
    ),
    "recipient-deferred": (
        N_("the server does not take the letter to {address} for now: {reply}"),
        N_("the letter is safe in the outbox; run `medmail outbox flush` later, not `medmail send`"),
    ),
    "recipient-refused": (N_("the server refuses {address}: {reply}"), ""),
    "untrusted-letter": (
        N_("the letter is not trusted and is not answered: {problems}"),
        N_("`medmail decrypt --explain` tells more"),
    ),
    "address-refused": (
        N_("{url} is not asked: it is no public http address"),
        N_("allow this machine and private networks with --allow-private"),
    ),
    "ambiguous": (
        N_("“{prefix}” begins the name of several messages"),
        N_("give more of its digits; `medmail inbox` shows them"),
    ),
    "ambiguous-identity": (
        N_("“{name}” names several identities: {ids}"),
        N_("give more digits of one, or --purpose if there is one of each; `medmail keys list` shows them"),
    ),
    "ambiguous-digest": (
        N_("“{prefix}” begins the digest of several certificates"),
        N_("give more of its digits"),
    ),
    "audit-damaged": (
        N_("the audit log {path} is damaged at entry {entry}"),
        N_(
            "`medmail audit verify` tells more; keep the folder as evidence, moved away together with "
            "keystore/trust.seal, and a new log begins that takes over whom you trust and lists it"
        ),
    ),
    "log-key-damaged": (
        N_("the audit log's key {path} is missing or damaged"),
        N_(
            "what was logged can still be verified (`medmail audit verify`), but nothing more can be added: "
            "keep {folder} as evidence, moved away together with keystore/trust.seal, and a new log begins "
            "that takes over whom you trust and lists it"
        ),
    ),
    "public-log-key-damaged": (
        N_("the audit log's public key {path} is missing or damaged"),
        N_("remove the file: the next command that writes to the log makes it anew from the log key"),
    ),
    "unlogged-trust": (
        N_("{path} is not believed: the audit log knows nothing of it"),
        N_(
            "ask who put it there; if it is to be trusted, `medmail trust add {path}` takes it in, "
            "else remove the file"
        ),
    ),
    "revocations-missing": (
        N_("{path} lacks revocations that the audit log says were remembered there"),
        N_(
            "restore the file from a backup: without it a revoked certificate could be believed again; "
            "`medmail trust remove` of the file's name forgets it for good"
        ),
    ),
    "own-revocations-missing": (
        N_("{path} lacks revocations of your own certificates that the audit log knows of"),
        N_("`medmail enrol revoke` of the address writes them down anew"),
    ),
    "trust-seal-broken": (
        N_("the keystore's seal over whom you trust, {path}, does not fit the audit log"),
        N_(
            "compare `medmail trust list` and `medmail contacts list` with whom you trust; if they are "
            "right, remove the file and they are sealed anew"
        ),
    ),
    "bad-config": (N_("{path}, line {line}: {reason}"), N_("`man medmail-config` explains every key")),
    "backup-damaged": (
        N_("the backup {path} is damaged"),
        N_("take another copy of it; this one cannot be trusted to be whole"),
    ),
    "bad-fingerprint": (
        N_("“{value}” is no SHA-256 fingerprint"),
        N_("it has 64 hexadecimal digits, with or without colons"),
    ),
    "bad-signature": (N_("the signature does not match what was signed"), ""),
    "bad-tag": (N_("the message was changed on its way, or is not for this key"), ""),
    "binary-to-terminal": (
        N_("refusing to write binary data to the terminal"),
        N_("write it to a file with -o FILE, or send it into a pipe"),
    ),
    "ca-busy": (
        N_("the authority {url} cannot answer now (HTTP {status}) {detail}"),
        N_("run the command again later; the key and the request are kept"),
    ),
    "ca-fingerprint-mismatch": (
        N_("no root of {url} has the fingerprint given; it offers {found}"),
        N_("compare the fingerprint with the one the authority published; do not go on if they differ"),
    ),
    "ca-pending": (
        N_("the authority {url} has not issued the certificate yet"),
        N_("run the command again later; it asks for the same certificate"),
    ),
    "ca-redirected": (
        N_("the authority {url} sends elsewhere, to {location}"),
        N_("if that is right, give that address with --ca"),
    ),
    "ca-refused": (
        N_("the authority {url} refuses the login (HTTP {status}) {detail}"),
        N_("check the authority's login and --password-file"),
    ),
    "ca-rejected": (N_("the authority {url} refuses the request (HTTP {status}) {detail}"), ""),
    "key-not-wanted": (
        N_("the authority {url} certifies no {key} key, but: {kinds}"),
        N_("leave --key away and it is made as the authority asks, or name one of these"),
    ),
    "certificate-not-as-requested": (
        N_("the authority {url} sent a certificate that cannot be used: {reason}"),
        N_("the key is kept; tell the authority"),
    ),
    "challenge-not-genuine": (
        N_("a mail that asks to prove the address to the authority was ignored: {reason}"),
        N_("run the command again; if it happens again, ask the authority how it signs such mails"),
    ),
    "content-twice": (N_("the signature carries its content twice"), ""),
    "declined": (N_("nothing was done"), ""),
    "disk-full": (N_("no space left to write {path}"), N_("free some space and run the command again")),
    "config-exists": (
        N_("{path} is there already and is never changed by medmail"),
        N_("edit it, or move it away first"),
    ),
    "exists": (N_("{path} exists and is different"), N_("choose another name, or replace it with --force")),
    "expired": (N_("the certificate has expired"), ""),
    "expires-soon": (
        N_("the certificate of {address} ends on {date}"),
        N_("`medmail enrol new ADDRESS --replace` gets another one"),
    ),
    "extra-missing": (
        N_("this needs packages that are not installed: {packages}"),
        N_("pip install 'medmail-cli[{extra}]'"),
    ),
    "folder-not-empty": (N_("{path} already holds something"), N_("name a new or an empty folder")),
    "header-mismatch": (N_("headers inside and outside the letter disagree"), ""),
    "key-mismatch": (
        N_("the private key does not belong to the certificate"),
        N_("give the certificate that was made for this key, or the key with --key-file"),
    ),
    "card-absent": (
        N_("the card “{label}” is not there"),
        N_("put it into its reader; `pcsc_scan` shows whether the reader sees it"),
    ),
    "address-not-on-card": (
        N_("no certificate on the card “{label}” is for {address}"),
        N_("without --address each is taken for the addresses that it bears"),
    ),
    "card-empty": (
        N_("the card “{label}” holds no certificate whose key signs or decrypts mail"),
        N_("`pkcs11-tool --list-objects` shows what it holds; --token names another card"),
    ),
    "card-failed": (
        N_("the card “{label}” failed: {reason}"),
        N_("take it out, put it in again and run the command once more"),
    ),
    "client-key-unusable": (
        N_("this key cannot log in to a server: {reason}"),
        N_("name a PEM file, or the address of another identity, as client-identity"),
    ),
    "no-card-module": (
        N_("no PKCS#11 module for cards can be used ({path}: {reason})"),
        N_("install OpenSC, or your card's own software (Cryptolib CPS), and name its module with --module"),
    ),
    "several-cards": (
        N_("there are several cards: {labels}"),
        N_("choose one with --token, by its label or its serial number"),
    ),
    "wrong-pin": (
        N_("the card “{label}” refuses the PIN; it was tried once and is not tried again"),
        N_("check where the PIN comes from before the next run: a few wrong ones lock the card"),
    ),
    "pin-locked": (
        N_("the PIN of the card “{label}” is locked"),
        N_("its issuer, or its own software with the unblocking code, can unlock it"),
    ),
    "pin-last-try": (
        N_("one more wrong PIN would lock the card “{label}”; it was not tried"),
        N_("enter the right one with the card's own software first, then run this again"),
    ),
    "pin-refused-before": (
        N_("the card “{label}” has refused this PIN before; it was not tried again"),
        N_("give another; if the card's PIN has changed to this one since, delete {path}"),
    ),
    "pin-unset": (
        N_("the card “{label}” has no PIN that can be used yet"),
        N_("set it with the card's own software"),
    ),
    "key-on-card": (
        N_("the key of {address} cannot leave its card"),
        N_(
            "without --private `medmail keys export` gives its certificate; "
            "`medmail enrol card` takes a new one"
        ),
    ),
    "key-not-here": (
        N_("there is no private key to this certificate, in the file or in the keystore"),
        N_("give its key with --key-file"),
    ),
    "keystore-exists": (
        N_("there is a keystore in {path} already"),
        N_("restore into an empty place, such as another --home, or move this keystore away first"),
    ),
    "implausible-time": (N_("the time of signature cannot be right"), ""),
    "insecure-url": (N_("{url} is not an https address"), N_("an authority is only spoken to over TLS")),
    "internal-error": (
        N_("medmail itself failed ({kind})"),
        N_("run it again with --debug and report what it shows; nothing secret is in it"),
    ),
    "interrupted": (N_("interrupted"), N_("run the command again; what was done stays done")),
    "keystore-locked": (
        N_("the keystore is locked"),
        N_("give --passphrase-file, or unlock it for a while with `medmail keys unlock`"),
    ),
    "index-damaged": (
        N_("the mailbox index {path} is damaged"),
        N_("`medmail inbox --rebuild` makes it anew from the messages beside it; nothing is lost"),
    ),
    "login-expired": (
        N_("{host}: what {login} logs in with has expired: {reply}"),
        N_("renew the password or token with the operator, then give the new one"),
    ),
    "client-certificate-refused": (
        N_("{host} does not let this client in by its certificate: {reason}"),
        N_("check `client-identity` in config.toml, or renew the certificate that it names"),
    ),
    "tls-failed": (
        N_("no TLS connection with {host} can be made: {reason}"),
        N_("check `host`, `port` and `security` in config.toml (an authority's `url`), or ask who runs it"),
    ),
    "wrong-security": (
        N_("{host} does not begin a connection as `security` in config.toml says"),
        N_('set security = "{wanted}" for that server, or the port that goes with it'),
    ),
    "login-refused": (
        N_("{host} refuses the login of {login}: {reply}"),
        N_("check the login, the password's source and `auth` in the configuration"),
    ),
    "malformed": (N_("{what} is damaged or not what it should be"), ""),
    "message-damaged": (
        N_("the stored message {path} has changed since it came"),
        N_("restore it from a backup; `medmail fetch` brings it again once the file is deleted"),
    ),
    "needs-confirmation": (N_("this needs a confirmation: {question}"), N_("confirm it with {flag}")),
    "needs-address": (
        N_("the certificate of “{subject}” bears no address"),
        N_("say whose it is with --address ADDR"),
    ),
    "no-account": (
        N_("no account “{name}” in {path}"),
        N_("`medmail config init` writes a first one"),
    ),
    "no-address-in-certificate": (
        N_("the certificate bears no address"),
        N_("pin it to one with --address ADDR"),
    ),
    "no-authority": (
        N_("no authority is set up to ask for a certificate"),
        N_("name one with --ca URL or in config.toml, or make a request to send by hand with --method csr"),
    ),
    "no-certificate": (
        N_("the certificate of {address} has not come yet"),
        N_("`medmail enrol new {address}` gives its request again, `enrol import` takes the certificate"),
    ),
    "no-config": (N_("no account is set up in {path}"), N_("`medmail config init` writes a first one")),
    "nested-encryption": (
        N_("the letter's encryption stands inside another layer, which could not be kept"),
        N_("keep the old key; it opens the letter as before"),
    ),
    "newer-store": (N_("{path} was written by a newer medmail"), N_("update medmail")),
    "no-identity": (
        N_("there is no identity in use for {address}"),
        N_("`medmail keys list` shows those there are; `medmail enrol` makes one"),
    ),
    "no-keystore": (
        N_("there is no keystore in {path} yet"),
        N_("`medmail enrol new` or `medmail enrol import` makes the first identity"),
    ),
    "no-imap-server": (
        N_("the account “{account}” names no IMAP server"),
        N_("add `imap` to it in the configuration; see `man medmail-config`"),
    ),
    "no-key": (N_("no key of yours opens this message"), N_("`medmail keys list` shows those you have")),
    "no-kernel-keyring": (
        N_("there is no kernel keyring here to keep the key in: {reason}"),
        N_("give the passphrase each time, by --passphrase-file or passphrase-command in config.toml"),
    ),
    "no-login-mechanism": (
        N_("the server offers no way to log in that this account can use ({offered})"),
        N_("it would need one of: {wanted}; see `auth` in `man medmail-config`"),
    ),
    "no-secret": (
        N_("the {secret} is needed and cannot be asked for"),
        N_("give --{secret}-file FILE, or set {variable}"),
    ),
    "no-signature": (N_("the letter is not signed"), ""),
    "not-addressed-to-you": (N_("the letter is not addressed to you"), ""),
    "not-found": (N_("there is no {what} “{name}”"), ""),
    "not-readable": (N_("{path} cannot be read: {reason}"), N_("check the place and its permissions")),
    "nobody-chosen": (
        N_("--only {column}={value} chooses nobody on the roster"),
        N_("what its column holds: {values}"),
    ),
    "not-text": (N_("{path} is not text in UTF-8"), N_("send files with --attach")),
    "not-usable": (N_("{path} cannot be used: {reason}"), N_("check the place and its permissions")),
    "not-writable": (N_("{path} cannot be written: {reason}"), N_("check the place and its permissions")),
    "not-yet-valid": (N_("the certificate is not valid yet"), ""),
    "other-log": (
        N_("this log's key did not sign that checkpoint of “{origin}”"),
        N_("it is another log's, or this log was put in the place of the one that signed it"),
    ),
    "output-is-input": (
        N_("{path} is what is read; it is not written over"),
        N_("name another file with --output"),
    ),
    "partly-signed": (N_("only a part of the letter is signed"), ""),
    "port-taken": (N_("port {port} for {what} cannot be opened: {reason}"), N_("choose another, or none")),
    "revocation-unknown": (N_("it is unknown whether the certificate is revoked"), ""),
    "revoked": (N_("the certificate is revoked"), ""),
    "secret-unreadable": (N_("the {secret} cannot be read from {path}: {detail}"), ""),
    "secret-command-failed": (
        N_("the command “{command}” gave no secret: {reason}"),
        N_("run it by hand; its first line of output is taken"),
    ),
    "several-to-stdout": (
        N_("several messages do not fit on stdout"),
        N_("name a file or a folder with --output"),
    ),
    "several-from": (N_("the letter names several senders"), ""),
    "server-answer-malformed": (N_("the answer of {host} is not what it should be ({detail})"), ""),
    "server-busy": (
        N_("{host} asks to come back later: {reply}"),
        N_("run the command again in some minutes; if that goes on, ask the operator"),
    ),
    "message-withheld": (N_("{host} names it and does not give it"), ""),
    "server-refused": (N_("{host} refuses: {reply}"), ""),
    "server-unreachable": (
        N_("{host} cannot be reached: {reason}"),
        N_("check the network and the address, then run the command again"),
    ),
    "server-untrusted": (
        N_("the certificate of {host} is not acceptable: {detail}"),
        N_("give the operator's anchors with --tls-anchors, or check that this is the right server"),
    ),
    "signer-is-not-sender": (N_("the signer is not the sender"), ""),
    "step-failed": (
        N_("`{command}` ended with exit {exit} instead of {expected}"),
        N_("report what is shown above, with --debug"),
    ),
    "spreadsheet": (
        N_("{path} is a spreadsheet, which is not read here"),
        N_("save it as CSV, in UTF-8; columns of long numbers are to be text first, or their digits change"),
    ),
    "stdin-twice": (
        N_("stdin can be read only once; {first} and {second} both ask for it"),
        N_("give one of them as a file"),
    ),
    "store-busy": (N_("another medmail is using {path}"), N_("wait for it to end, then run this again")),
    "store-damaged": (
        N_("{path} is damaged"),
        N_("restore it from a backup (`medmail keys restore` for the keystore)"),
    ),
    "expanded-key-only": (
        N_("{what} holds an expanded key of {algorithm} without the seed it was made from"),
        N_(
            "keys are used by their seed: write it again where the seed is, with OpenSSL by `openssl pkey -in"
            " KEY.pem -provparam {family}.output_formats=seed-only`; if the seed is gone, a new key is needed"
        ),
    ),
    "other-container": (
        N_("{path} is a Java key store ({kind})"),
        N_(
            "make a PKCS#12 file of it: `keytool -importkeystore -srckeystore {path} -destkeystore keys.p12"
            " -deststoretype PKCS12`"
        ),
    ),
    "too-large": (N_("{what} is too large: {size} bytes, at most {limit}"), ""),
    "too-many-rounds": (
        N_("{what} wants {rounds} rounds to derive a key from the password, at most {limit} are done"),
        N_("write it again with fewer, a million say; such a file of a stranger is made to keep you busy"),
    ),
    "unauthenticated-encryption": (N_("the encryption does not show whether it was changed"), ""),
    "unsafe-folder": (
        N_("nothing is written to {path}: {reason}"),
        N_("name a folder that is yours alone"),
    ),
    "unsupported-algorithm": (N_("an algorithm is not supported"), ""),
    "untrusted-issuer": (N_("no trust anchor of yours stands behind the certificate"), ""),
    "usage": (N_("{detail}"), N_("`{command} --help` shows what it takes")),
    "weak-algorithm": (N_("an algorithm is too weak to be trusted"), ""),
    "weak-key": (N_("a key is too short to be trusted"), ""),
    "wrong-extended-key-usage": (N_("the certificate is not meant for e-mail"), ""),
    "wrong-key-usage": (N_("the certificate is not meant for this use"), ""),
    "wrong-backup-passphrase": (
        N_("the passphrase does not open the backup"),
        N_("it is the one given when the backup was made"),
    ),
    "wrong-p12-password": (
        N_("the password does not open the file, or the file is damaged"),
        N_("give it with --p12-password-file FILE"),
    ),
    "wrong-passphrase": (N_("the passphrase does not open the keystore"), N_("try again, or check its file")),
}
"""Code to message and hint."""
