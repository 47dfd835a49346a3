"""What one person of a batch is given."""

from pathlib import Path

from medmail_cli.workflows.batch_person import Handout

SEALING = b"0123456789abcdef0123456789abcdef"


def test_what_seals_keys_is_not_shown(tmp_path: Path) -> None:
    assert repr(SEALING) not in repr(Handout(tmp_path, SEALING))
