"""One effect between its intent and its outcome in the audit log."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from medmail_cli.errors import OK, MedmailError, exit_of

if TYPE_CHECKING:
    from medmail_cli.store.auditlog import AuditLog


@contextmanager
def logged(
    log: "AuditLog", action: str, actor: str, objects: Sequence[str] = (), **facts: str | int | bool | None
) -> Iterator[None]:
    """Run a block whose effect is ``action``: done if it ends well, failed if it raises a MedmailError.

    Whatever else ends it (a kill, an interruption) leaves the intent open for the next run to close.
    """
    intent = log.intent(action, actor=actor, objects=tuple(objects), **facts)
    try:
        yield
    except MedmailError as error:
        log.outcome(intent, "failed", exit=exit_of(error.code))
        raise
    log.outcome(intent, "done", exit=OK)
