"""Which addresses a certificate speaks for (RFC 8550 §3, RFC 9598), and when two addresses are one.

Verifying compares the local part without ASCII case and the domain as A-labels; nothing else is folded,
so that no Unicode look-alike ever counts as the same address.
"""

import unicodedata
from functools import lru_cache

from cryptography import x509

from medmail_cli.cms.certificates import UNREADABLE
from medmail_cli.pki.x509 import dn

SMTP_UTF8_MAILBOX = x509.ObjectIdentifier("1.3.6.1.5.5.7.8.9")
"""id-on-SmtpUTF8Mailbox (RFC 9598 §3)."""

_TO_LOWER = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")
_UTF8_STRING = 0x0C
_LONGEST = 1024


def ascii_lower(text: str) -> str:
    """Fold ASCII capitals and nothing else."""
    return text.translate(_TO_LOWER)


def ascii_domain(domain: str) -> str:
    """A domain as lower-case A-labels (RFC 5890); a label that is ASCII already is only lower-cased.

    A U-label is encoded as it stands, with no mapping: what is not yet lower case or composed gets an
    A-label of its own, and so never equals the label it resembles.
    """
    return ".".join(_ascii_label(label) for label in domain.split("."))


def _ascii_label(label: str) -> str:
    if label.isascii():
        return ascii_lower(label)
    try:
        return "xn--" + ascii_lower(label).encode("punycode").decode("ascii")
    except UnicodeError:  # a lone surrogate: keep it, it equals only itself
        return label


def unicode_domain(domain: str) -> str:
    """A domain with its A-labels as U-labels, for showing; what cannot be decoded stays."""
    return ".".join(_unicode_label(label) for label in domain.split("."))


def canonical(address: str) -> str:
    """The one form under which a mailbox is compared: ASCII-lower local part, A-label domain.

    An address without ``@`` comes back lower-cased only; the last ``@`` divides.
    """
    if address.isascii():
        return address.strip().lower()
    local, at, domain = address.strip().rpartition("@")
    return ascii_lower(local) + "@" + ascii_domain(domain) if at else ascii_lower(domain)


def exact(address: str) -> str:
    """The local part as written, the domain as A-labels: what encrypting looks up first."""
    local, at, domain = address.strip().rpartition("@")
    return local + at + (ascii_domain(domain) if at else domain)


def is_address(text: str) -> bool:
    """Could this be a mail address: something on both sides of an @, nothing blank or unprintable?"""
    return all(text.rpartition("@")) and text.isprintable() and " " not in text


def same_address(first: str, second: str) -> bool:
    """Whether two addresses are one mailbox by the verifying rule (RFC 8550 §3: caseless local part)."""
    return bool(first.strip()) and canonical(first) == canonical(second)


@lru_cache(maxsize=1024)
def addresses(certificate: x509.Certificate) -> tuple[str, ...]:
    """Every mailbox the certificate names: rfc822Name, SmtpUTF8Mailbox, then emailAddress in the subject.

    In that order, each once. A certificate whose extensions cannot be read names nobody.
    """
    mailboxes: list[str] = []
    for name in _alternative_names(certificate):
        if isinstance(name, x509.RFC822Name):
            mailboxes.append(name.value)
        elif isinstance(name, x509.OtherName) and name.type_id == SMTP_UTF8_MAILBOX:
            mailbox = decode_mailbox(name.value)
            if mailbox:
                mailboxes.append(mailbox)
    try:
        in_subject = dn.subject(certificate).get_attributes_for_oid(x509.NameOID.EMAIL_ADDRESS)
    except UNREADABLE:
        in_subject = []
    mailboxes += [a.value for a in in_subject if isinstance(a.value, str)]
    once: dict[str, str] = {}
    for address in mailboxes:
        if "@" in address and len(address) <= _LONGEST:
            once.setdefault(canonical(address), address)
    return tuple(once.values())


def domains(certificate: x509.Certificate) -> tuple[str, ...]:
    """The dNSNames, which bind a whole domain under Direct (Applicability Statement 1.3 §4), as A-labels."""
    names = _alternative_names(certificate)
    return tuple(ascii_domain(n.value) for n in names if isinstance(n, x509.DNSName) and "*" not in n.value)


def binds(certificate: x509.Certificate, address: str, *, domain_bound: bool = False) -> bool:
    """Whether the certificate speaks for ``address``.

    With ``domain_bound`` (a switch of the profile) a dNSName equal to the whole domain does too, but only
    where the certificate names no mailbox at all.
    """
    mailboxes = addresses(certificate)
    # no blank is trimmed off what an authority certified
    if any(mailbox == mailbox.strip() and same_address(mailbox, address) for mailbox in mailboxes):
        return True
    _, at, domain = address.strip().rpartition("@")
    return bool(domain_bound and at and not mailboxes and ascii_domain(domain) in domains(certificate))


def looks_mixed(address: str) -> bool:
    """Whether one label or the local part mixes scripts, as look-alike addresses do (UTS 39 §5, simplified).

    Digits and punctuation belong to every script; Japanese and Korean writing mix theirs rightly.
    """
    local, _, domain = address.rpartition("@")
    return any(_mixed(part) for part in [local, *unicode_domain(domain).split(".")])


def resemble(first: str, second: str) -> bool:
    """Whether two different addresses look alike to the eye, Unicode case and forms folded."""
    return not same_address(first, second) and skeleton(first) == skeleton(second)


def decode_mailbox(value: bytes) -> str | None:
    """The mailbox in an SmtpUTF8Mailbox: a DER UTF8String (RFC 9598 §3); None where it is not one."""
    if len(value) < 2 or value[0] != _UTF8_STRING:
        return None
    if value[1] < 0x80:
        length, start = value[1], 2
    elif value[1] in (0x81, 0x82) and len(value) >= 4:
        start = 2 + (value[1] & 0x7F)
        length = int.from_bytes(value[2:start], "big")
    else:
        return None
    if len(value) != start + length:
        return None
    try:
        return value[start:].decode("utf-8")
    except UnicodeDecodeError:
        return None


def _alternative_names(certificate: x509.Certificate) -> tuple[x509.GeneralName, ...]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, *UNREADABLE):
        return ()
    return tuple(extension.value)


_TOGETHER = ({"HIRAGANA", "KATAKANA", "CJK"}, {"HANGUL", "CJK"}, {"BOPOMOFO", "CJK"})


def _mixed(text: str) -> bool:
    scripts = {unicodedata.name(c, "UNKNOWN").split()[0].split("-")[0] for c in text if c.isalpha()}
    return len(scripts) > 1 and not any(scripts <= together for together in _TOGETHER)


def _unicode_label(label: str) -> str:
    if not ascii_lower(label).startswith("xn--"):
        return label
    try:
        return label[4:].encode("ascii").decode("punycode")
    except UnicodeError:
        return label


# letters that Latin eyes cannot tell from their own; the few that make up nearly all attempts
_ALIKE = str.maketrans("аеорсухіјѕһԁԛԝӏѵɡɑıιοανρυκτօոսհ", "aeopcyxijshdqwlvgaiioavpuktonuh")


def skeleton(address: str) -> str:
    """What two addresses that look alike to the eye have in common (UTS 39 §4, simplified)."""
    local, at, domain = address.strip().rpartition("@")
    shown = local + at + unicode_domain(domain)
    folded = unicodedata.normalize("NFKC", shown).casefold().translate(_ALIKE)
    return "".join(c for c in unicodedata.normalize("NFD", folded) if not unicodedata.combining(c))
