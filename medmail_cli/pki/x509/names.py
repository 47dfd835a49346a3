"""Comparing names, and the constraints an authority is held to (RFC 5280 §4.2.1.10, §7)."""

import ipaddress
from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cryptography import x509

from medmail_cli.cms.identifiers import folded
from medmail_cli.pki.x509.address import SMTP_UTF8_MAILBOX, ascii_domain, ascii_lower, decode_mailbox

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_COMPARISONS = 1 << 20
"""Names times constraints that are worth comparing; nobody has so many for a good reason."""

NameKey = tuple[frozenset[tuple[str, str | bytes]], ...]


def name_key(name: x509.Name) -> NameKey:
    """A distinguished name as RFC 5280 §7.1 compares it: no case, spaces folded, any string type."""
    return tuple(
        frozenset(
            (a.oid.dotted_string, folded(a.value) if isinstance(a.value, str) else a.value) for a in rdn
        )
        for rdn in name.rdns
    )


def violates(
    subject: x509.Name, names: Iterable[x509.GeneralName], constraints: "Sequence[x509.NameConstraints]"
) -> str | None:
    """The first name that the constraints of the authorities above forbid, as text; None if all may stand.

    ``subject`` counts as a directoryName, and its emailAddress attributes as rfc822Names.
    """
    every: list[x509.GeneralName] = [x509.DirectoryName(subject)] if subject.rdns else []
    every += names
    mails = [str(a.value) for a in subject.get_attributes_for_oid(x509.NameOID.EMAIL_ADDRESS)]
    trees = sum(len(each or ()) for c in constraints for each in (c.permitted_subtrees, c.excluded_subtrees))
    if len(every) * trees > MOST_COMPARISONS:
        return f"{len(every)} × {trees}"
    for constraint in constraints:
        for name in every:
            if not _allowed(name, constraint):
                return _shown(name)
        for mail in mails:
            if not _mail_allowed(mail, constraint):
                return mail
    return None


def mail_allowed(address: str, constraints: "Sequence[x509.NameConstraints]") -> bool:
    """Whether the rfc822Name constraints of the authorities above let a certificate stand for a mailbox."""
    return all(_mail_allowed(address, constraint) for constraint in constraints)


def _shown(name: x509.GeneralName) -> str:
    value = name.value
    if isinstance(name, x509.OtherName):
        return decode_mailbox(name.value) or name.type_id.dotted_string
    return value.rfc4514_string() if isinstance(value, x509.Name) else str(value)


def _allowed(name: x509.GeneralName, constraint: x509.NameConstraints) -> bool:
    if isinstance(name, x509.RFC822Name):
        return _mail_allowed(name.value, constraint)
    kind = _form(name)
    # the rfc822Name's constraints bind these mailboxes too (RFC 9598 §6)
    mailbox = (decode_mailbox(name.value) or "") if kind == SMTP_UTF8_MAILBOX else None
    if mailbox is not None and not _mail_allowed(mailbox, constraint):
        return False
    excluded = [tree for tree in constraint.excluded_subtrees or () if _form(tree) == kind]
    permitted = [tree for tree in constraint.permitted_subtrees or () if _form(tree) == kind]
    if any(_within(name, tree, unknown=True) for tree in excluded):
        return False
    return not permitted or any(_within(name, tree, unknown=False) for tree in permitted)


def _form(name: x509.GeneralName) -> object:
    """The form of a name: every kind of otherName is a form of its own (RFC 5280 §4.2.1.6)."""
    return name.type_id if isinstance(name, x509.OtherName) else type(name)


def _mail_allowed(address: str, constraint: x509.NameConstraints) -> bool:
    excluded = [t.value for t in constraint.excluded_subtrees or () if isinstance(t, x509.RFC822Name)]
    permitted = [t.value for t in constraint.permitted_subtrees or () if isinstance(t, x509.RFC822Name)]
    if any(_mail_within(address, tree, unknown=True) for tree in excluded):
        return False
    return not permitted or any(_mail_within(address, tree, unknown=False) for tree in permitted)


def _within(name: x509.GeneralName, tree: x509.GeneralName, *, unknown: bool) -> bool:
    """Whether ``name`` lies in the subtree; ``unknown`` is what to say of forms that cannot be compared."""
    if isinstance(name, x509.DirectoryName) and isinstance(tree, x509.DirectoryName):
        base = name_key(tree.value)
        return name_key(name.value)[: len(base)] == base
    if isinstance(name, x509.DNSName) and isinstance(tree, x509.DNSName):
        return _host_below(name.value, tree.value)
    if isinstance(name, x509.UniformResourceIdentifier) and isinstance(tree, x509.UniformResourceIdentifier):
        host = _host_of(name.value)
        return unknown if host is None else _host_matches(host, tree.value)
    if isinstance(name, x509.IPAddress) and isinstance(tree, x509.IPAddress):
        network = tree.value
        if isinstance(network, ipaddress.IPv4Network | ipaddress.IPv6Network):
            return name.value.version == network.version and name.value in network
    return unknown


def _mail_within(address: str, tree: str, *, unknown: bool) -> bool:
    """As ``_within``; what is ``unknown`` here is whether letter case in a local part means anything.

    Since From is compared without it (RFC 8550 §3), an excluded mailbox is excluded however it is written.
    """
    local, at, host = address.rpartition("@")
    if not at:
        return unknown
    if "@" in tree:
        tree_local, _, tree_host = tree.rpartition("@")
        same = ascii_lower(local) == ascii_lower(tree_local) if unknown else local == tree_local
        return same and ascii_domain(host) == ascii_domain(tree_host)
    return _host_matches(ascii_domain(host), ascii_domain(tree))


def _host_matches(host: str, tree: str) -> bool:
    """Mail and URI constraints: ``.d`` means below d, ``d`` means that host alone."""
    host, tree = host.lower().rstrip("."), tree.lower()
    return host.endswith(tree) and host != tree if tree.startswith(".") else host == tree or not tree


def _host_below(host: str, tree: str) -> bool:
    """DNS constraints: the host itself or anything below it."""
    host, tree = host.lower().rstrip("."), tree.lower().lstrip(".")
    return not tree or host == tree or host.endswith("." + tree)


def _host_of(uri: str) -> str | None:
    """The host name in a URI, None where there is none or an address in its place (RFC 5280 §4.2.1.10)."""
    try:
        host = urlsplit(uri).hostname
    except ValueError:
        return None
    if not host or ":" in host or host.replace(".", "").isdigit():
        return None
    return host
