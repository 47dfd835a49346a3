"""``medmail enrol status``: what ends when."""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from medmail_cli.codes import FAILED, OK
from medmail_cli.pki.x509.usage import Purpose
from medmail_cli.store.keys.identity import Identity
from medmail_cli.workflows.enrol.certified import covers

if TYPE_CHECKING:
    from medmail_cli.store.keys.keystore import Keystore


@dataclass(frozen=True)
class Expiry:
    """When an identity ends, in whole days from now; ``expires-soon`` where that is sooner than asked for."""

    type: ClassVar[str] = "expiry"
    status: Literal["valid", "expires-soon", "expired", "waiting"]
    id: str
    address: str
    purpose: Purpose
    method: str
    not_after: dt.datetime | None
    days_left: int | None
    exit: int = OK


def status(keystore: "Keystore", *, now: dt.datetime, within: dt.timedelta) -> Iterator[Expiry]:
    """Every identity in use, the soonest to expire first; exit 1 for each that ends within that time.

    One whose work a later one does for the same address counts as replaced and is left out.
    """
    held = keystore.identities()
    used = [(each.expires, each) for each in held if each.state == "active" and each.expires]
    for end, identity in sorted(used, key=lambda pair: pair[0]):
        if any(later > end and covers(other, identity) for later, other in used):
            continue
        left = (end - now).days
        if end <= now + within:
            yield _expiry("expired" if end < now else "expires-soon", identity, left, FAILED)
        else:
            yield _expiry("valid", identity, left, OK)
    for identity in held:
        if identity.state == "waiting":
            yield _expiry("waiting", identity, None, OK)


def _expiry(
    ends: Literal["valid", "expires-soon", "expired", "waiting"],
    identity: Identity,
    left: int | None,
    code: int,
) -> Expiry:
    return Expiry(
        ends, identity.id, identity.address, identity.purpose, identity.method, identity.expires, left, code
    )
