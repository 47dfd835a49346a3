"""``medmail decrypt`` for people: who signed, by whose authority, whether to believe it; then the letter."""

from typing import TYPE_CHECKING

from medmail_cli.model import Phrase
from medmail_cli.ui import margin, sanitize
from medmail_cli.ui.error_messages import ERRORS
from medmail_cli.ui.i18n import _
from medmail_cli.ui.messages import N_, REASONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from medmail_cli.smime.verdict import Verdict
    from medmail_cli.ui.console import Console, Line
    from medmail_cli.workflows.mail.decrypt import Explanation

NOTES = {
    "not-encrypted": N_("it was not encrypted"),
    "headers-unprotected": N_("its subject, date and addresses are not under the signature"),
    "replayed": N_("another letter bore the same Message-ID"),
    "line-endings-repaired": N_("line ends changed on the way were repaired"),
    "revocation-unknown": N_("whether the certificate was revoked is not known"),
    "unauthenticated-encryption": N_("its encryption alone would not show a change"),
    "address-resembles": N_("its sender’s address looks like one you know, but is another"),
    "mixed-scripts": N_("its sender’s address mixes letters of several scripts, as look-alikes do"),
    "not-addressed-to-you": N_("it is not addressed to you"),
}
_CHECKS = {
    "layers": N_("layers found"),
    "decryption": N_("decryption"),
    "coverage": N_("the signature covers everything"),
    "signature": N_("signature"),
    "anchor": N_("an authority you trust"),
    "issued": N_("issued by the one above"),
    "period": N_("valid at that time"),
    "revocation": N_("not revoked"),
    "names": N_("names its issuer"),
    "constraints": N_("within the names allowed"),
    "policies": N_("policies"),
    "rights": N_("entitled to issue certificates"),
    "strength": N_("key and algorithm strong enough"),
    "use": N_("meant for signing mail"),
    "sender": N_("the signer is the sender"),
    "headers": N_("headers"),
    "addressee": N_("addressed to you"),
}
_RESULTS = {
    "held": ("green", N_("holds")),
    "failed": ("red", N_("fails")),
    "noted": ("yellow", N_("holds, with a reserve")),
    "not-made": ("dim", N_("nothing to check")),
}


_EVIDENCE = {
    "none": N_("none"),
    "no signed attributes": N_("no signed attributes"),
    "no CRL and no OCSP answer at hand": N_("no CRL and no OCSP answer at hand"),
}
"""What there was not."""
_PHRASES = (
    N_("{0} · {1} of {2}"),
    N_("{0} – {1}, at {2}"),
    N_("CRL of {0}"),
    N_("CRL of {0} to {1}"),
    N_("OCSP answer of {0}"),
    N_("{0} CRLs enclosed"),
    N_("{0}, which clears nobody ({1})"),
    N_("{0}: {1}"),
    N_("{0}; {1}"),
    N_("kept, as {0} asks"),
    N_("no keyUsage"),
    N_("policy"),
    N_("critical extension {0}"),
    N_("protected; outside From: {0} · Subject: {1}"),
    N_("outside; outside From: {0} · Subject: {1}"),
    N_("the signature cannot be read"),
    N_("the signer's certificate is not at hand"),
    N_("the signer's certificate cannot be read"),
    N_("cannot be read: {0}"),
    N_("signing time"),
    N_("{0} in plain EnvelopedData, which has no place for its tag"),
    N_("encrypted"),
    N_("signed"),
    N_("compressed"),
    N_("wrapped"),
)
"""What evidence is put together from; the rest is codes, names, numbers and times, alike everywhere."""


def message(event: "Verdict", console: "Console") -> "Iterable[Line]":
    """Three lines of verdict, then headers and text; stdout is left to content that goes there."""
    verdict = list(_verdict(event))
    if event.output == "-":
        for line in verdict:
            if event.exit:
                console.err(line)
            else:
                console.say(line)
        return
    yield from verdict
    yield from _letter(event, console)


def empty(_command: str) -> str:
    """What to say where ``--unopened`` found nothing."""
    return _("no message waits to be opened")


def explanation(event: "Explanation", _console: "Console") -> "Iterable[Line]":
    for step in event.steps:
        style, said = _RESULTS[step.result]
        check = _("{name}: ").format(name=_(_CHECKS[step.check]))
        yield [f"{step.number}. {check}", (style, _(said)), f" ({_rule(step.rule)})"]
        if step.about:
            yield f"   {sanitize.line(step.about)}"
        for evidence in step.evidence:
            yield f"   {sanitize.line(_said(evidence))}"
    yield ""


def _said(evidence: str) -> str:
    """Evidence in the language of this run, whatever of it is not what a stranger wrote."""
    if not isinstance(evidence, Phrase):
        return evidence
    return _(evidence.template).format(*map(_said, evidence.parts))


def _rule(rule: str) -> str:
    first, to, last = rule.partition(" to ")
    return _("{first} to {last}").format(first=first, last=last) if to else rule


def _verdict(event: "Verdict") -> "Iterator[Line]":
    signers = event.signature.vouching
    if signers:
        who = "; ".join(", ".join(s.addresses) or s.subject or _("somebody unknown") for s in signers)
        when = next((s.signed_at for s in signers if s.signed_at), None)
        claimed = any("bad-signature" in signer.problems for signer in signers)
        said = _("A signature in the name of {who} that does not hold") if claimed else _("Signed by {who}")
        signed = said.format(who=sanitize.line(who))
        if when and not claimed:
            signed += _(" on {when}").format(when=when.astimezone().strftime("%Y-%m-%d %H:%M"))
        yield signed
        anchor = next((s.anchor for s in signers if s.anchor), None)
        issuer = next((s.issuer for s in signers if s.issuer), None)
        if anchor and all("untrusted-issuer" in signer.problems for signer in signers):
            said = _("By no authority: {anchor}, which you trust, does not vouch for it")
            yield said.format(anchor=sanitize.line(anchor))
        elif anchor:
            yield _("By authority of {anchor}, which you trust").format(anchor=sanitize.line(anchor))
        elif issuer:
            yield _("By authority of {issuer}, which you do not trust").format(issuer=sanitize.line(issuer))
        else:
            yield _("By an authority that cannot be told")
    elif event.encryption.status == "failed":
        yield _("Not opened, so nobody can say who signed")
        yield _("By no authority")
    else:
        yield _("Signed by nobody")
        yield _("By no authority")
    yield from _belief(event)


def _belief(event: "Verdict") -> "Iterator[Line]":
    notes = [_(NOTES.get(note.code) or ERRORS[note.code][0]) for note in event.notes]
    reserve = f" ({'; '.join(notes)})" if notes else ""
    if event.trusted:
        yield [("bold green", _("Believe it: every check held")), sanitize.line(reserve)]
        return
    reasons = [_(ERRORS[problem.code][0]) for problem in event.problems if problem.code not in _OWN_WORDS]
    for problem in event.problems:
        if problem.code in _OWN_WORDS:
            of_outlook = problem.detail in _FILES
            reasons.append(_(REASONS[problem.detail] if of_outlook else _OWN_WORDS[problem.code]))
    yield [
        ("bold red", _("DO NOT BELIEVE IT: {reasons}").format(reasons="; ".join(reasons))),
        sanitize.line(reserve),
    ]


_FILES = ("outlook-msg", "winmail-dat")
_SEALED = {"application/pkcs7-mime", "application/x-pkcs7-mime"}
_OWN_WORDS = {"malformed": N_("the message is damaged or not what it should be")}


def _letter(event: "Verdict", console: "Console") -> "Iterator[Line]":
    """What the sender wrote, set apart; then what is ours to say of it."""
    yield ""
    yield from margin.set_apart(_content(event), console)
    if any(attachment.type in _SEALED for attachment in event.attachments):
        yield _("A sealed part beside others stays closed; save it with --out-dir and open it by itself.")
    if event.output:
        yield [("bold", _("Written to: ")), sanitize.line(event.output)]
    if event.withheld:
        yield ""
        yield _withheld(event)
    yield ""


_OF_CIPHERS = {"weak-algorithm", "unsupported-algorithm"}
"""Problems whose detail is the name of an algorithm, where nothing could be opened for it."""


def _content(event: "Verdict") -> "Iterator[tuple[str, str]]":
    """The sender's words line by line, each with what it is called."""
    headers = event.headers
    fields = (
        (_("From"), headers.from_),
        (_("To"), ", ".join(headers.to)),
        (_("Cc"), ", ".join(headers.cc)),
        (_("Date"), headers.date.astimezone().strftime("%Y-%m-%d %H:%M %z") if headers.date else None),
        (_("Subject"), headers.subject),
    )
    for name, value in fields:
        if value:
            yield _("{name}: ").format(name=name), sanitize.line(value)
    for attachment in event.attachments:
        where = f" → {attachment.saved_as}" if attachment.saved_as else ""
        size = _("{size} bytes").format(size=attachment.size)
        name, kind = sanitize.line(attachment.name or "?"), sanitize.line(attachment.type)
        yield _("Attached: "), f"{name} ({kind}, {size}){sanitize.line(where)}"
    if event.text is not None and not event.output:
        yield "", ""
        for line in sanitize.text(event.text).rstrip("\n").split("\n"):
            yield "", line


def _withheld(event: "Verdict") -> str:
    if event.encryption.status == "failed" or event.exit == 1:
        why = [
            _said(problem.detail)
            for problem in event.problems
            if isinstance(problem.detail, Phrase) or (problem.detail and problem.code in _OF_CIPHERS)
        ]
        if why:
            return _("Nothing could be opened: {why}.").format(why=why[0])
        return _("Nothing could be opened.")
    return _("The content is withheld; --show-unverified shows it all the same.")
