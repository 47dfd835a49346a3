"""Which rows of a roster a batch is about, and what it would do with each of them."""

import datetime as dt
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from medmail_cli.errors import MedmailError, NothingAttemptedError
from medmail_cli.pki.x509.address import canonical
from medmail_cli.store.batch_journal import Journal, State
from medmail_cli.workflows.batch.report import BatchRow, issued, of_done, of_row
from medmail_cli.workflows.batch.roster import Fault, Professional, cell

_MOST_VALUES = 20


def choose(
    rows: Sequence[Professional], only: Sequence[tuple[str, str]], shard: tuple[int, int]
) -> list[Professional]:
    """The rows that ``--only`` and ``--shard`` leave: any of a column's values, all of the columns.

    A shard is chosen by the SHA-256 of the address, so that another order or more rows move nobody.
    """
    wanted: dict[str, set[str]] = {}
    for column, value in only:
        wanted.setdefault(column, set()).add(value.casefold())
    index, count = shard
    return [
        row
        for row in rows
        if all(cell(row, column).casefold() in values for column, values in wanted.items())
        and (count == 1 or _slot(row.address, count) == index)
    ]


def _slot(address: str, count: int) -> int:
    return int.from_bytes(hashlib.sha256(canonical(address).encode()).digest()[:8]) % count


def check_choice(rows: Sequence[Professional], only: Sequence[tuple[str, str]]) -> None:
    """Raise ``nobody-chosen``, with the values there are, where ``--only`` leaves none of the rows."""
    if not rows or not only or choose(rows, only, (0, 1)):
        return
    for column, value in only:
        cells = {cell(row, column) for row in rows} - {""}
        if not cells or value.casefold() not in {each.casefold() for each in cells}:
            values = sorted(cells)
            shown = [*values[:_MOST_VALUES], *(["…"] if len(values) > _MOST_VALUES else [])]
            raise MedmailError("nobody-chosen", column=column, value=value, values=shown)
    raise MedmailError("nobody-chosen", column=only[0][0], value=only[0][1], values=[])


def faulty(faults: Sequence[Fault], *, skip_faulty: bool) -> Iterator[Fault]:
    """Tell of every fault. Raises ``faulty-rows`` unless the others shall be enrolled all the same."""
    yield from faults
    if faults and not skip_faulty:
        raise NothingAttemptedError("faulty-rows", count=len({fault.line for fault in faults}))


def is_done(state: State, now: dt.datetime) -> bool:
    """Whether a person has every certificate there shall be, and all are valid still."""
    done = state.done
    return done is not None and min(issued(each).not_after for each in done["certificates"]) > now


def forecast(rows: Sequence[Professional], folder: Path, now: dt.datetime) -> Iterator[BatchRow]:
    """What enrolling would begin with, by the journal in ``folder``. Raises ``store-damaged``."""
    journal = Journal.read(folder)
    for row in rows:
        state = journal.state(canonical(row.address))
        yield of_done(row, "unchanged", state) if is_done(state, now) else of_row(row, "ready")
