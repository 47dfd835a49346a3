"""Who asks an authority may prove it by an identity of the keystore: a registrar without any password."""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from medmail_cli.sandbox.operator import Operator
from medmail_cli.store.keys.keystore import Keystore
from medmail_cli.store.keys.unlocked import unlock
from tests.support import tokens
from tests.support.cli import PASSPHRASE, Done, medmail, passphrase
from tests.support.rosters import enrol, person, registrar, roster, rows
from tests.support.tokens import PIN, SOFTHSM, Reader

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


# --- by a card -------------------------------------------------------------------------------------------


@dataclass
class SendingContext:
    """A registrar whose key is on a card alone, without the certificate of who issued its own."""

    home: Path
    reader: Reader

    def run(self, *words: str | Path) -> Done:
        pin = {"MEDMAIL_PIN_FILE": str(self.home.parent / "pin")}
        return medmail(self.home, *words, "--json", "--no-input", env=self.reader.env | pin)


@pytest.fixture(params=["p256", "rsa3072"])
def office(operator: Operator, tmp_path: Path, request: pytest.FixtureRequest) -> SendingContext:
    maker, home = registrar(tmp_path, operator), tmp_path / "office"
    made = medmail(maker, "enrol", "new", REGISTRAR, "--ca", "order", "--key", request.param, "--no-backup")
    assert made.exit == 0, made.stderr
    store = unlock(Keystore(maker / "keystore"), PASSPHRASE.encode())
    (one,) = store.identities()
    assert one.certificate is not None
    reader, key = tokens.reader(tmp_path / "reader"), store.unseal(one)
    assert isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
    reader.insert().put_pair(one.certificate, key)
    (tmp_path / "pin").write_text(PIN + "\n")
    home.mkdir()
    passphrase(home)
    found = SendingContext(home, reader)
    enrolled = found.run("enrol", "card", "--module", SOFTHSM)
    assert enrolled.exit == 0, enrolled
    (tmp_path / "issuing.pem").write_bytes(one.chain[0].public_bytes(Encoding.PEM))
    assert found.run("trust", "add", tmp_path / "issuing.pem", "--intermediate").exit == 0
    return found


@pytest.mark.parametrize("method", ["est", "cmp"])
def test_a_card_is_login_enough(
    operator: Operator, office: SendingContext, tmp_path: Path, method: str
) -> None:
    settings(office.home, operator, method, f'client-identity = "{REGISTRAR}"')
    address, root = f"{method}.dr@medecin.test", operator.authority.fingerprint
    words = ("--key", "p256", "--ca-fingerprint", root, "--no-backup")
    done = office.run("enrol", "new", address, *words)
    assert (done.exit, done.objects[0]["status"]) == (0, "enrolled"), done
    done = office.run("enrol", "renew", address, "--no-backup")
    assert (done.exit, done.objects[0]["status"]) == (0, "renewed"), done
    if method == "est":
        done = office.run("enrol", "new", "made.there@medecin.test", *words, "--server-key")
        assert (done.exit, done.objects[0]["method"]) == (0, "registrar-held"), done
    # a key of ours would take the card's place
    done = office.run("enrol", "renew", REGISTRAR, "--no-backup")
    assert (done.exit, done.objects[-1]["code"]) == (1, "key-on-card"), done
    assert "enrol card" in done.objects[-1]["hint"]
    people = roster(tmp_path / "r.csv", [person(n, address=f"{method}{n}@medecin.test") for n in range(6)])
    done = office.run("enrol", "batch", people, *words[:-1], "--out-dir", tmp_path / "out", "--jobs", "3")
    assert (done.exit, done.objects[-1]["counts"].get("enrolled")) == (0, 6), done.stdout
