"""One effect between its intent and its outcome in the audit log."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from medmail_cli.audit.entry import Outcome
from medmail_cli.codes import OK, REFUSED, UNTRUSTED
from medmail_cli.errors import MedmailError, exit_of
from medmail_cli.store.log import reserve

if TYPE_CHECKING:
    from medmail_cli.audit.entry import Ending, Fact
    from medmail_cli.store.log.run import RunContext


@dataclass
class Ended:
    """What the outcome shall say besides how it ended; filled in while the effect is under way."""

    objects: tuple[str, ...] = ()
    facts: "dict[str, Fact]" = field(default_factory=dict)


@contextmanager
def logged(run: "RunContext", action: str, objects: Sequence[str] = (), **facts: "Fact") -> Iterator[Ended]:
    """Run a block whose effect is ``action``: done if it ends well, else failed or refused (MedmailError).

    Whatever else ends it (a kill, an interruption) leaves the intent open for the next run to close.
    """
    if action in reserve.FREEING:
        reserve.give_up(run.log.folder)
    intent = run.log.intent(action, actor=run.actor, objects=tuple(objects), **facts)
    ended = Ended()
    try:
        yield ended
    except MedmailError as error:
        code = exit_of(error.code)
        ending: Ending = "refused" if code in (REFUSED, UNTRUSTED) else "failed"
        with suppress(MedmailError):  # what went wrong first is what the user must hear of
            run.log.outcome(intent, ending, exit=code, error=error.code)
        raise
    run.log.outcomes([Outcome(intent, "done", OK, None, ended.objects, ended.facts)])
