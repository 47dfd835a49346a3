"""Who acts, when, and where it is written down: what every effect of a run needs together."""

import datetime as dt
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medmail_cli.store.log.writer import AuditLog


@dataclass(frozen=True)
class RunContext:
    """The audit log, the actor that its entries name, and the instant (UTC) by which everything is judged."""

    log: "AuditLog"
    actor: str
    now: dt.datetime

    def acting(self, actor: str) -> "RunContext":
        """The same for somebody else: of an identity's keys and letters, its owner is named."""
        return replace(self, actor=actor)
