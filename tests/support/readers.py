"""Every function that reads strangers' bytes, found by listing the rooms that parse, and how it is called.

One that takes a text or octets and nothing else is called as it stands, the others by the calls in ``CALLS``;
who adds a reader that is in neither list, and not among those whose input is our own, is told by
:func:`measured`, which gives no call for it.
"""

import contextlib
import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator
from functools import partial

from medmail_cli.cms import (
    algorithms,
    ber,
    content,
    der,
    enclosed,
    enveloped,
    identifiers,
    pss,
    recipients,
    signed,
    signerinfo,
)
from medmail_cli.errors import MedmailError
from medmail_cli.pki.issuance import csrattrs
from medmail_cli.pki.x509 import address, bundle, critical, keyfile, pkcs8, pkcs12
from medmail_cli.smime import (
    acme_challenge,
    charsets,
    compose,
    display,
    dkim,
    fields,
    filenames,
    header,
    labels,
    layers,
    mime,
    rewrap,
    transfer,
)
from medmail_cli.transport import imapanswers, imapwire
from medmail_cli.ui import sanitize
from medmail_cli.workflows.batch import roster_csv
from tests.support.letters import NOW, opened

ROOMS = ("smime", "cms", "pki", "audit")
MODULES = ("ui.sanitize", "transport.imapwire", "transport.smtpwire", "transport.imapanswers",
           "workflows.mail.reply", "workflows.batch.roster_csv")  # fmt: skip

LABELS = ("utf-8", "utf-7", "utf-16", "iso-2022-jp", "hz", "x-unknown", "idna", "punycode")
ENCODINGS = ("base64", "quoted-printable", "x-uuencode", "8bit")


def octets(call: Callable[[bytes], object]) -> Callable[[str], object]:
    """A call that takes octets, for a text."""
    return lambda text: call(text.encode())


def node(call: Callable[[ber.Node], object]) -> Callable[[str], object]:
    """A call that takes parsed BER: the text is what a SEQUENCE and a constructed string hold many of."""

    def run(text: str) -> None:
        many = len(text) // 6
        for one in (b"\x30\x00", b"\x02\x01\x01", b"\x31\x02\x05\x00", b"\x04\x00", b"\xa0\x80\0\0"):
            for before in (b"", b"\x02\x01\x00", b"\x06\x01\x2a"):
                for tag in (b"\x30", b"\x24", b"\xa0"):
                    inside = before + one * many
                    whole = tag + b"\x84" + len(inside).to_bytes(4) + inside
                    with contextlib.suppress(MedmailError, ValueError):
                        call(ber.parse(whole))

    run.once = True  # type: ignore[attr-defined]
    return run


def entity(call: Callable[[mime.Entity], object]) -> Callable[[str], object]:
    """A call that takes a parsed message: the text in its body, of several kinds, and in its header."""

    def run(text: str) -> None:
        for head in (
            "Content-Type: {}",
            "Content-Type: text/html\r\n\r\n{}",
            "Content-Type: multipart/mixed; boundary=b\r\n\r\n{}",
            "Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n{}",
            "Content-Type: text/plain\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n{}",
        ):
            with contextlib.suppress(MedmailError, ValueError):
                call(mime.parse(head.replace("{}", text).encode()))

    return run


def header_of(call: Callable[[tuple[fields.Field, ...]], object]) -> Callable[[str], object]:
    """A call that takes header fields: the text in each of those that are read."""
    known = (
        "from",
        "to",
        "cc",
        "subject",
        "date",
        "message-id",
        "references",
        "auto-submitted",
        "in-reply-to",
    )

    def run(text: str) -> None:
        data = text.encode()
        call(tuple(fields.Field(name, name.encode() + b": " + data) for name in known))

    return run


def _no_keys(_name: str) -> list[bytes]:
    return []


def no_password() -> bytes:
    """What a file that asks for a password gets."""
    return b"x"


def rows_of(text: str) -> None:
    """All rows of a roster."""
    for _ in roster_csv.rows(text, lambda cells: (len(cells), 0)):
        pass


def answered(call: Callable[[imapwire.Response], object]) -> Callable[[str], object]:
    """A call that takes an answer of an IMAP server."""
    return lambda text: call(imapwire.Response(b"*", (text.encode(),)))


def fetched(call: Callable[[imapwire.Response], object]) -> Callable[[str], object]:
    """A call that takes an answer of an IMAP server that begins as that to FETCH does."""
    return lambda text: call(imapwire.Response(b"*", (b"1 FETCH (UID 1 " + text.encode() + b")",)))


CALLS: dict[str, tuple[Callable[[str], object], ...]] = {
    "transport.imapwire.parse": (lambda text: imapwire.parse((text.encode(),)),),
    "transport.imapanswers.will_pass": (partial(imapanswers.will_pass, ""),),
    "transport.imapanswers.knows_no_such": (answered(imapanswers.knows_no_such),),
    "transport.imapanswers.fetched": (fetched(imapanswers.fetched),),
    "transport.imapanswers.message_id": (
        fetched(imapanswers.message_id),
        lambda text: imapanswers.message_id(
            imapwire.Response(
                b"*", (b"1 FETCH (UID 1 BODY[HEADER.FIELDS (MESSAGE-ID)] ", text.encode(), b")")
            )
        ),
    ),
    "transport.imapanswers.numbers": (fetched(imapanswers.numbers), answered(imapanswers.numbers)),
    "transport.imapanswers.extended": (
        fetched(imapanswers.extended),
        lambda text: imapanswers.extended(
            imapwire.Response(b"*", (b"ESEARCH ALL " + b"1:9," * (len(text) // 4) + b"1",))
        ),
    ),
    "transport.imapanswers.words_of": (answered(imapanswers.words_of),),
    "transport.imapanswers.refusal": (answered(partial(imapanswers.refusal, "h")),),
    "transport.imapanswers.login_refusal": (answered(partial(imapanswers.login_refusal, "h", "l")),),
    "workflows.batch.roster_csv.decoded": (octets(lambda data: roster_csv.decoded(data, "f")),),
    "workflows.batch.roster_csv.rows": (rows_of,),
    "ui.sanitize.line": (sanitize.line,),
    "smime.acme_challenge.announces": (header_of(acme_challenge.announces),),
    "smime.acme_challenge.read": (
        header_of(lambda got: acme_challenge.read(got, sender="a@b", recipient="c@d", proven=True)),
    ),
    "smime.compose.unstructured": (partial(compose.unstructured, "Subject"),),
    "smime.compose.mailboxes": (
        lambda text: compose.mailboxes("To", [fields.Mailbox("a@b.test", text)]),
        lambda text: compose.mailboxes("To", fields.parse_mailboxes(text)),
    ),
    "smime.compose.parameterized": (
        lambda text: compose.parameterized("Content-Type", "a/b", [("name", text)]),
    ),
    "smime.display.shown": (entity(lambda one: display.shown(one, protected=True, encrypted=True)),),
    "smime.dkim.verify": (
        octets(lambda data: dkim.verify(data, "b.test", lambda _: [b"v=DKIM1; p=AA==; " + data], NOW)),
        octets(
            lambda data: dkim.verify(
                b"DKIM-Signature: v=1; d=b.test; h=from; s=" + data, "b.test", _no_keys, NOW
            )
        ),
        octets(
            lambda data: dkim.verify(
                b"From: a@b.test\r\nDKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=b.test; s=s; "
                b"h=from; bh=AA==; b=AA==\r\n\r\n" + data,
                "b.test",
                lambda _: [b"v=DKIM1; p=AA=="],
                NOW,
            )
        ),
    ),
    "smime.charsets.decode": (
        partial(charsets.decode, b"x"),
        *(octets(partial(charsets.decode, label=name)) for name in LABELS),
    ),
    "smime.fields.without_parameters": (octets(lambda data: fields.without_parameters(data, {"a"})),),
    "smime.filenames.distinct": (lambda text: filenames.distinct([text[:9]] * (len(text) // 9)),),
    "smime.header.all_of": (header_of(lambda got: header.all_of(got, "to")),),
    "smime.header.mailboxes": (header_of(lambda got: header.mailboxes(got, "to")),),
    "smime.header.shown": (header_of(lambda got: header.shown(got, "subject")),),
    "smime.header.headers": (header_of(lambda got: header.headers(got, protected=True)),),
    "smime.labels.is_cms": (entity(labels.is_cms),),
    "smime.labels.is_signature": (entity(labels.is_signature),),
    "smime.labels.is_multipart_signed": (entity(labels.is_multipart_signed),),
    "smime.labels.is_wrapped": (entity(labels.is_wrapped),),
    "smime.labels.is_passed_on": (entity(lambda one: labels.is_passed_on(one, one.fields)),),
    "smime.layers.unwrap": (octets(lambda data: layers.unwrap(data, [])),),
    "smime.layers.holds_signature": (entity(layers.holds_signature),),
    "smime.layers.signed_content": (entity(layers.signed_content),),
    "smime.layers.with_cms": (entity(lambda one: layers.with_cms(one, b"x")),),
    "smime.mime.or_text": (entity(mime.or_text),),
    "smime.mime.reread": (octets(lambda data: mime.reread(data, 0, len(data))),),
    "smime.transfer.decode": tuple(octets(partial(transfer.decode, encoding=name)) for name in ENCODINGS),
    "smime.mime.decode_body": (entity(mime.decode_body),),
    "smime.mime.decode_text": (entity(mime.decode_text),),
    "smime.open.open_message": (
        octets(opened),
        octets(
            lambda data: opened(b"From: a@b.test\r\nSubject: " + data + b"\r\nDate: " + data + b"\r\n\r\nx")
        ),
        octets(lambda data: opened(b"From: a@b.test\r\nTo: " + data + b"\r\n\r\nx")),
        entity(lambda one: opened(one.source)),
    ),
    "smime.rewrap.recipients": (octets(lambda data: rewrap.recipients(data, [])),),
    "smime.rewrap.opens": (octets(lambda data: rewrap.opens(data, [])),),
    "cms.algorithms.read": (node(algorithms.read),),
    "cms.ber.parse": (
        node(lambda one: list(one.elements())),
        node(lambda one: one.octets(one.tag)),
        octets(ber.parse),
    ),
    "cms.content.content_type": (node(content.content_type),),
    "cms.content.content_of": (node(lambda one: content.content_of(one, "1.2")),),
    "cms.content.data": (node(content.data),),
    "cms.content.decompress": (node(lambda one: content.decompress(one, 1 << 20)),),
    "cms.content.encapsulated": (node(content.encapsulated),),
    "cms.der.canonical": (node(der.canonical),),
    "cms.enclosed.readable": (node(lambda one: list(enclosed.readable(one))),),
    "cms.enclosed.certificates": (node(lambda one: list(enclosed.certificates(one))),),
    "cms.enclosed.crls": (node(lambda one: list(enclosed.crls(one, ()))),),
    "cms.enclosed.ocsp": (node(lambda one: list(enclosed.ocsp(one, ()))),),
    "cms.enveloped.parse_enveloped": (node(enveloped.parse_enveloped),),
    "cms.identifiers.attributes": (node(identifiers.attributes),),
    "cms.identifiers.read": (node(identifiers.read),),
    "cms.identifiers.issuer_and_serial": (node(identifiers.issuer_and_serial),),
    "cms.identifiers.of_octets": (node(identifiers.of_octets),),
    "cms.pss.read": (node(pss.read),),
    "cms.recipients.read_recipients": (node(recipients.read_recipients),),
    "cms.signed.parse_signed": (node(signed.parse_signed),),
    "cms.signed.unsigned_attributes": (node(signed.unsigned_attributes),),
    "pki.x509.address.same_address": (lambda text: address.same_address(text, text + "x"),),
    "pki.x509.address.resemble": (lambda text: address.resemble(text, text + "x"),),
    "pki.x509.bundle.read_bundle": (octets(lambda data: bundle.read_bundle(data, "f")),),
    "pki.x509.bundle.blocks": (octets(lambda data: list(bundle.blocks(data, {b"A", b"CERTIFICATE"}))),),
    "pki.x509.bundle.decoded": (octets(lambda data: bundle.decoded(data, "f")),),
    "pki.x509.critical.unknown_critical": (octets(lambda data: critical.unknown_critical(data, set())),),
    "pki.issuance.csrattrs.attribute": (node(csrattrs.attribute),),
    "cms.signerinfo.capability_name": (node(signerinfo.capability_name),),
    "pki.x509.keyfile.read_keys": (octets(lambda data: keyfile.read_keys(data, "f", no_password)),),
    "pki.x509.pkcs12.read": (octets(lambda data: pkcs12.read(data, list)),),
    "pki.x509.pkcs8.open_key": (octets(lambda data: pkcs8.open_key(data, ())),),
}
"""Readers that take more than the text, by the calls that try them."""

OURS = {
    # what we write, or ask for by a name of our own
    "transport.imapwire": ("with_strings", "discard"),
    "workflows.mail.reply": ("answer",),
    "smime.acme_challenge": ("answer", "digest"),
    "smime.compose": ("payload", "multipart_signed", "cms_headers", "new_message_id"),
    "smime.protect": ("committed", "protect"),
    "smime.recipient_emails": ("values", "check"),
    "smime.verdict": ("exit_for",),
    "cms.encrypt": ("encrypt", "entry_for"),
    "cms.signed": ("sign", "attribute"),
    "cms.der": ("pieces", "tlv", "set_of", "sequence", "octet_string", "bit_string", "oid"),
    "cms.algorithms": (
        "identifier", "unsupported", "hash_of", "oaep_parameters", "pss_parameters", "is_older_cipher",
        "ml_name",
    ),
    "pki.x509.bundle": ("pem",),
    "pki.issuance.cmp": ("build", "status_info", "free_text"),
    "pki.issuance.cmp_protection": ("write", "authentic"),
    "pki.issuance.cmp_request": ("confirmation",),
    "pki.issuance.csrattrs": ("fitted",),
    "pki.issuance.jose": ("key_authorization", "sign", "authenticate", "encode"),
    "pki.x509.pbe": ("open_sealed", "seal", "mac", "holds", "spellings"),
    "pki.x509.pkcs12": ("write",),
    "pki.issuance.csr": ("build_request", "general_name"),
    "audit.entry": ("check", "intent_line", "outcome_line"),
    "audit.checkpoint": ("new_signer", "parse_skey", "verify"),
    "audit.belief": ("load", "contact_mark", "voucher", "advance"),
    "audit.check": ("scan", "faults"),
    # keys and blocks, of a length that their kind gives, or one pass of a cipher or a hash
    "cms.agreement": ("derive", "derive_kem", "derive_content_key"),
    "cms.keywrap": ("wrap_for", "kek_size", "wrap_key", "unwrap_key"),
    "cms.oaep": ("encrypt", "decrypt", "decode"),
    "cms.pss": ("verify",),
    "cms.rc2": ("decrypt_cbc",),
    "cms.recipients": ("peer_key",),
    "cms.verify": ("check_signer", "check_plain"),
    "pki.x509.certificate": ("verifies",),
    "pki.x509.seeds": ("from_seed",),
    "audit.tree": (
        "leaf_hash", "node_hash", "extend", "fold", "frontier", "root",
        "inclusion_proof", "consistency_proof", "verify_inclusion", "verify_consistency",
    ),
    # what stands on the readers above, which take its input apart
    "smime.header": ("choose", "in_clear"),
    "smime.signers": ("judge_signers", "check_sender", "nobody"),
    "smime.rewrap": ("rewrap",),
    "cms.rewrap": ("rewrap",),
    "cms.ber": ("malformed",),
    "pki.x509.address": ("binds",),
    "pki.path.crl": ("read_crl",),
    "pki.path.fitness": ("may_speak_for",),
    "pki.issuance.issued": ("checked",),
    "pki.x509.names": ("mail_allowed",),
    "pki.path.revocation": ("find_statements",),
}  # fmt: skip
"""What takes texts or octets and reads nothing of a stranger's: by module."""

_TAKEN = re.compile(r"bytes|\bstr\b|class 'object'|memoryview|\bNode\b|\bEntity\b|\bField\b|\bResponse\b")


def readers() -> Iterator[tuple[str, Callable[..., object], list[inspect.Parameter]]]:
    """Every public function of the rooms that takes what could be a stranger's, with its parameters."""
    modules = list(MODULES)
    for room in ROOMS:
        package = importlib.import_module(f"medmail_cli.{room}")
        walked = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        modules += [module.name.removeprefix("medmail_cli.") for module in walked if not module.ispkg]
    for name in modules:
        module = importlib.import_module(f"medmail_cli.{name}")
        for called, value in vars(module).items():
            function = inspect.unwrap(value) if callable(value) else value
            if called.startswith("_") or not inspect.isfunction(function):
                continue
            taken = list(inspect.signature(function).parameters.values())
            if function.__module__ == module.__name__ and any(
                _TAKEN.search(str(one.annotation)) for one in taken
            ):
                yield f"{name}.{called}", function, taken


def measured() -> dict[str, tuple[Callable[[str], object], ...]]:
    """The calls of every reader; none for one that nobody has said how to call."""
    found: dict[str, tuple[Callable[[str], object], ...]] = {}
    for name, function, taken in readers():
        module, _, called = name.rpartition(".")
        needed = [one for one in taken if one.default is one.empty]
        kind = str(needed[0].annotation) if len(needed) == 1 and needed[0] is taken[0] else ""
        if called in OURS.get(module, ()):
            continue
        if name in CALLS:
            found[name] = CALLS[name]
        elif kind == "<class 'str'>":
            found[name] = (function,)
        elif "bytes" in kind and "Sequence" not in kind and "Iterable" not in kind:
            found[name] = (octets(function),)
        else:
            found[name] = ()
    return found
