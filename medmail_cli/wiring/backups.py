"""What a new key that opens letters wants: a backup or its owner's refusal, and the organisation's copy."""

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from medmail_cli.ui.i18n import _

if TYPE_CHECKING:
    from medmail_cli.session import Session
    from medmail_cli.workflows.enrol.escrow import Escrow


def check(session: "Session", backup: Path | None, *, no_backup: bool) -> None:
    """Refuse before anything is done what cannot be done at the end. Raises ``not-writable``, ``usage``."""
    from medmail_cli.store.files import check_output

    if backup is not None and no_backup:
        raise typer.BadParameter(_("--backup and --no-backup exclude each other"))
    if backup is not None:
        check_output(backup, force=False)
        session.secrets.new("backup-passphrase")


def kept(
    session: "Session", events: Generator[object, None, bool], backup: Path | None, *, no_backup: bool
) -> Iterator[object]:
    """Pass events on; then see to a backup of the keys that letters are encrypted to from now on.

    ``events`` return whether such keys are in use from now on, or more letters are encrypted to them.
    """
    from medmail_cli.model import Note
    from medmail_cli.store.keys import backup_record
    from medmail_cli.workflows import keys

    fresh = yield from events
    if not fresh:
        return
    folder = session.keystore.folder
    missing = backup_record.missing(folder, session.keystore.identities())
    names = [identity.key_sha256 for identity in missing]
    if backup is not None:
        secret = session.secrets.new("backup-passphrase")
        yield from keys.backup(session.unlocked, session.run, secret, backup, force=False)
    elif missing:
        addresses = ", ".join(dict.fromkeys(identity.address for identity in missing))
        if no_backup or (session.can_ask and session.ask("no-backup", "--no-backup", addresses=addresses)):
            backup_record.record(folder, names, "refused")
        else:
            yield Note("not-backed-up", {"addresses": addresses})


def escrow_of(session: "Session") -> "Escrow | None":
    """For whom the profile wants keys that encrypt to be copied; None where it does not."""
    path = session.profile.escrow
    if path is None:
        return None
    from medmail_cli.workflows.enrol.escrow import Escrow, read_organisation

    organisation = read_organisation(path, session.now())
    return Escrow(organisation, session.paths.keystore.parent / "escrow", session.run)
