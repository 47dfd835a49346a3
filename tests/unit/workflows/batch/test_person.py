"""What one person of a batch is given."""

from pathlib import Path

from medmail_cli.cms.certificates import load
from medmail_cli.workflows.batch.person import Handout, Pending, Prepared, hand_out
from medmail_cli.workflows.batch.roster import Professional
from medmail_cli.workflows.enrol.key_pairs import Pair
from tests.support.slips import ADDRESS, AT, KEY, PLAIN, SLIPS, written

SEALING = b"0123456789abcdef0123456789abcdef"


def test_an_authority_whose_certificate_has_a_slip_stops_nobody(tmp_path: Path) -> None:
    above = load(written(SLIPS["_ and * in a PrintableString"]))
    pair = Pair("p256", "sign")
    prepared = Prepared((pair,), "a password", (Pending(pair, KEY, b""),), ((PLAIN, above),))
    row, out = Professional(2, ADDRESS), Handout(tmp_path, SEALING, p12=True)
    for _ in range(2):  # the second time it is there already
        (place,), _secret = hand_out(row, prepared, out, AT)
        assert place.stat().st_size > 0


def test_what_seals_keys_is_not_shown(tmp_path: Path) -> None:
    assert repr(SEALING) not in repr(Handout(tmp_path, SEALING))
