"""What stands above a certificate, among certificates of any order and origin."""

from medmail_cli.pki.path.chain import chain_of, is_root
from tests.support import pki

ROOT = pki.make_ca("Root")
MIDDLE = pki.make_ca("Middle", parent=ROOT)
CERTIFICATE, _ = pki.issue(MIDDLE, "a@x.test", "both", "p256")


def test_a_chain_is_put_in_order_and_needs_true_signatures() -> None:
    stranger = pki.make_ca("Middle")
    assert chain_of(CERTIFICATE, [ROOT.certificate, stranger.certificate, MIDDLE.certificate]) == MIDDLE.chain
    assert chain_of(CERTIFICATE, [ROOT.certificate]) == ()
    assert [is_root(one) for one in MIDDLE.chain] == [False, True]
