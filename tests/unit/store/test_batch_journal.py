"""The journal of a batch keeps to whole lines, whatever happens to the disk."""

import resource
from pathlib import Path

import pytest

from medmail_cli.errors import MedmailError
from medmail_cli.store.batch_journal import Journal, Record


def test_a_line_that_found_no_room_spoils_none_after_it(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Journal(tmp_path / "out") as journal:
        journal.add([Record("a@medecin.test", "asked", {"key": "1"})])
        size = (tmp_path / "out" / "journal.jsonl").stat().st_size
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, hard))
            with pytest.raises(MedmailError) as full:
                journal.add([Record("b@medecin.test", "asked", {"key": "2"})])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert full.value.code == "disk-full"
        journal.add([Record("a@medecin.test", "refused")])
    with Journal(tmp_path / "out") as journal:
        assert set(journal.states) == {"a@medecin.test"}
        assert not journal.state("a@medecin.test").pending
