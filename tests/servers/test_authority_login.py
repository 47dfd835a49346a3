"""Who asks an authority may prove it by an identity of the keystore: a registrar without any password."""

import re
from pathlib import Path

import pytest

from medmail_cli.sandbox.operator import Operator
from tests.support.cli import medmail
from tests.support.rosters import enrol, person, registrar, roster, rows

REGISTRAR = "registrar@medecin.test"


def settings(home: Path, operator: Operator, method: str, *lines: str) -> None:
    """The authority alone, with these lines, and no password anywhere."""
    url = operator.cmp_url if method == "cmp" else operator.est_url
    table = (
        f'[authorities.order]\nurl = "{url}"\nmethod = "{method}"\ntls-anchors = "{operator.order_anchors}"\n'
    )
    (home / "config.toml").write_text("fetch-private = true\n" + table + "\n".join(lines) + "\n")


@pytest.mark.parametrize("method", ["est", "cmp"])
def test_a_registrars_certificate_is_login_enough_for_a_roster(
    operator: Operator, tmp_path: Path, method: str
) -> None:
    home = registrar(tmp_path, operator)
    own = medmail(home, "enrol", "new", REGISTRAR, "--ca", "order", "--key", "p256", "--no-backup")
    assert own.exit == 0, own.stderr
    root = operator.authority.fingerprint
    # kinds of addresses of its own: one authority serves both methods here
    people = roster(tmp_path / "r.csv", [person(n, address=f"{method}{n}@medecin.test") for n in range(3)])
    options = ("--out-dir", tmp_path / "out", "--ca-fingerprint", root, "--no-input")
    settings(home, operator, method)
    without = enrol(home, people, *options)
    assert (without.exit, {one["code"] for one in rows(without).values()}) == (4, {"no-secret"}), (
        without.stdout
    )
    settings(home, operator, method, f'client-identity = "{REGISTRAR}"')
    done = enrol(home, people, *options)
    assert (done.exit, done.objects[-1]["counts"].get("enrolled")) == (0, 3), done.stdout
    config = (tmp_path / "out" / f"{method}0@medecin.test" / "config.toml").read_text()
    assert not re.search("client-identity|registrar@", config)


def test_an_identity_that_is_not_there_is_told_of(operator: Operator, tmp_path: Path) -> None:
    home = registrar(tmp_path, operator)
    settings(home, operator, "est", 'client-identity = "nobody@medecin.test"')
    done = medmail(home, "enrol", "new", "dr.martin@medecin.test", "--json")
    assert (done.exit, done.objects[-1]["code"]) in ((1, "no-identity"), (1, "no-keystore")), done.stdout
    assert "Traceback" not in done.stderr
