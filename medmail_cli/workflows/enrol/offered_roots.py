"""Roots that come along with something else, offered as trust anchors."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from medmail_cli.cms.certificates import fingerprint
from medmail_cli.codes import OK
from medmail_cli.errors import MedmailError
from medmail_cli.model import Note
from medmail_cli.pki.x509.certificate import subject_text
from medmail_cli.workflows.audited import logged

if TYPE_CHECKING:
    from medmail_cli.store.log.run import RunContext
    from medmail_cli.store.trust.anchors import Trust

AskTrust = Callable[[x509.Certificate], bool]
"""Asks the person whether to trust a root; None in its place where nobody can be asked."""


@dataclass(frozen=True)
class Anchor:
    """A root that an enrolment offered as trust anchor."""

    type: ClassVar[str] = "anchor"
    status: Literal["added", "unchanged", "refused"]
    sha256: str
    subject: str
    exit: int = OK


def check_fingerprint(
    trust: "Trust", roots: Sequence[x509.Certificate], wanted: str | None, source: str
) -> None:
    """Raises ``ca-fingerprint-mismatch`` where none of the roots, nor any anchor, bears the fingerprint."""
    everything = {fingerprint(root) for root in (*roots, *(trust.anchors() if wanted else ()))}
    if wanted is not None and wanted not in everything:
        fingerprints = [fingerprint(root) for root in roots]
        raise MedmailError("ca-fingerprint-mismatch", url=source, expected=wanted, found=fingerprints)


def offer_roots(
    trust: "Trust",
    run: "RunContext",
    roots: Sequence[x509.Certificate],
    wanted: str | None,
    ask_trust: AskTrust | None,
) -> Iterator[Anchor | Note]:
    """Offer roots as trust anchors: taken where ``wanted`` is the fingerprint, else asked, else noted."""
    anchors = trust.anchors()
    for root in dict.fromkeys(roots):
        digest, shown = fingerprint(root), subject_text(root)
        if root in anchors:
            if wanted == digest:
                yield Anchor("unchanged", digest, shown)
        elif wanted == digest or (wanted is None and ask_trust is not None and ask_trust(root)):
            with logged(run, "trust-add", (digest,), kind="anchor"):
                trust.add(root.public_bytes(Encoding.PEM), "root")
            yield Anchor("added", digest, shown)
        elif wanted is None and ask_trust is not None:
            yield Anchor("refused", digest, shown)
        else:
            yield Note("root-not-trusted", {"subject": shown, "sha256": digest})
