"""What a home of an older version believes: taken over into the log once, as its own entries."""

from dataclasses import dataclass
from pathlib import Path

from medmail_cli.audit.belief import KEEP
from medmail_cli.audit.entry import Intent
from medmail_cli.model import Note
from medmail_cli.pki.x509.certificate import subject_text
from medmail_cli.store.keys.own_revoked import revoked
from medmail_cli.store.trust.anchors import Trust
from medmail_cli.store.trust.believed import TakenOver
from medmail_cli.store.trust.contacts import Contacts


@dataclass(frozen=True)
class Folders:
    """The folders of a home in which trust stands."""

    trust: Path
    cache: Path
    contacts: Path
    keystore: Path


def everything(folders: Folders) -> TakenOver:
    """What an older home holds: anchors, contacts taken by hand, what is remembered of revocations."""
    taken_over, store = TakenOver(), Trust(folders.trust, folders.cache)
    anchors = [item for item in store.items() if item.kind == "anchor"]
    taken_over.adopt("anchor", [item.sha256 for item in anchors])
    for item in anchors:
        facts: dict[str, str | int] = {"subject": subject_text(item.certificate), "sha256": item.sha256}
        taken_over.notes.append(Note("anchor-adopted", facts))
    for contact in Contacts(folders.contacts).all():
        digests = [known.sha256 for known in contact.by_hand]
        taken_over.adopt("contact", digests, address=contact.address)
        for sha256 in digests:
            taken_over.notes.append(Note("contact-adopted", {"address": contact.address, "sha256": sha256}))
    taken_over.adopt("revoked", sorted(revoked(folders.keystore)))
    for name, octets, sha256 in store.remembered():
        taken_over.said.append(Intent(KEEP, "medmail", (sha256,), {"list": name, "octets": octets}))
    return taken_over
