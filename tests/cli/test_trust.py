"""``medmail trust`` as people and scripts see it."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID

from tests.support import pki
from tests.support.cli import Done, medmail, valid
from tests.support.webserver import Files, serving

ROOT = pki.make_ca("Order Root")
SHA256 = ROOT.certificate.fingerprint(hashes.SHA256()).hex()


def actions(home: Path) -> list[tuple[str, str]]:
    """What the audit log says was done."""
    entries = medmail(home, "audit", "log", "--json").objects[:-1]
    return [(e["action"], e["outcome"]) for e in entries if e["kind"] == "outcome"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def root_file(tmp_path: Path) -> Path:
    path = tmp_path / "root.pem"
    path.write_bytes(pki.pem(ROOT.certificate))
    return path


def test_add_list_remove(home: Path, root_file: Path) -> None:
    env = {"TZ": "UTC"}
    row = f"anchor\t{SHA256[:16]}\tCN=Order Root\t2046-01-01 00:00\t"
    assert medmail(home, "trust", "add", root_file, env=env) == Done(0, row + "added\n", "")
    assert medmail(home, "trust", "add", root_file, env=env) == Done(0, row + "unchanged\n", "")
    assert medmail(home, "trust", "list", env=env) == Done(0, row + "\n", "")
    assert (home / "trust/anchors" / f"{SHA256}.pem").read_bytes() == root_file.read_bytes()
    assert (home / "trust/anchors" / f"{SHA256}.pem").stat().st_mode & 0o777 == 0o600
    assert medmail(home, "trust", "remove", SHA256[:8], env=env) == Done(0, row + "removed\n", "")
    assert medmail(home, "trust", "list") == Done(0, "", "")
    assert actions(home) == [("trust-add", "done"), ("trust-remove", "done")]


def test_add_as_json_from_stdin(home: Path) -> None:
    crl = pki.make_crl(ROOT)
    done = medmail(home, "--json", "trust", "add", "-", stdin=pki.pem(ROOT.certificate, crl))
    anchor, listed, result = valid("trust add", done)
    assert (anchor["kind"], anchor["sha256"], anchor["status"]) == ("anchor", SHA256, "added")
    assert (listed["kind"], listed["status"], listed["until"]) == ("crl", "added", "2046-01-01T00:00:00Z")
    assert result["counts"] == {"trust": 2, "added": 2}
    assert len(valid("trust list", medmail(home, "trust", "list", "--json"))) == 3


def test_a_table_in_french(home: Path, root_file: Path) -> None:
    done = medmail(home, "--lang", "fr", "trust", "add", root_file)
    assert done.exit == 0
    assert "CN=Order Root" in done.stdout


@pytest.mark.parametrize(
    ("argv", "code", "exit_code"),
    [
        (("add", "missing.pem"), "not-found", 1),
        (("add", "."), "not-readable", 1),
        (("remove", "abc"), "not-found", 1),
        (("remove", "f" * 64), "not-found", 1),
        (("remove",), "usage", 2),
    ],
)
def test_refusals(home: Path, argv: tuple[str, ...], code: str, exit_code: int) -> None:
    done = medmail(home, "trust", *argv, "--json")
    assert done.exit == exit_code
    (error,) = done.objects
    assert (error["type"], error["code"]) == ("error", code)
    assert done.stderr.startswith("medmail: error: ")


def test_half_a_bundle_is_taken_not_at_all(home: Path, tmp_path: Path) -> None:
    whole = pki.pem(ROOT.certificate, pki.make_ca("Other").certificate)
    broken = tmp_path / "broken.pem"
    broken.write_bytes(whole[:-90] + b"\n-----END CERTIFICATE-----\n")
    done = medmail(home, "trust", "add", broken)
    assert (done.exit, done.stdout) == (1, "")
    assert done.stderr == f"medmail: error: {broken} is damaged or not what it should be\n"
    assert not (home / "trust").exists()


def test_a_changed_byte_is_exit_7_and_names_the_file(home: Path, root_file: Path) -> None:
    medmail(home, "trust", "add", root_file)
    path = home / "trust/anchors" / f"{SHA256}.pem"
    path.write_bytes(path.read_bytes().replace(b"A", b"B", 1))
    done = medmail(home, "trust", "list")
    assert (done.exit, done.stdout) == (7, "")
    assert str(path) in done.stderr


@pytest.fixture
def server() -> Iterator[Files]:
    with serving() as running:
        yield running


@pytest.fixture
def waiting(home: Path, root_file: Path, tmp_path: Path, server: Files) -> pki.Authority:
    """A contact below an intermediate that is not at hand; all it names is on ``server``."""
    points = x509.CRLDistributionPoints(
        [x509.DistributionPoint([x509.UniformResourceIdentifier(f"{server.url}/root.crl")], None, None, None)]
    )
    sub = pki.make_ca("Sub", parent=ROOT, extensions=[(points, False)])
    access = x509.AuthorityInformationAccess(
        [
            x509.AccessDescription(
                AuthorityInformationAccessOID.CA_ISSUERS,
                x509.UniformResourceIdentifier(f"{server.url}/moved"),
            )
        ]
    )
    leaf, _ = pki.issue(
        sub, "dr.b@x.test", key_type="p256", crl_url=f"{server.url}/sub.crl", extensions=[(access, False)]
    )
    server.files = {
        "/moved": "/sub.cer",
        "/sub.cer": sub.certificate.public_bytes(Encoding.DER),
        "/root.crl": pki.make_crl(ROOT).public_bytes(Encoding.DER),
        "/sub.crl": pki.make_crl(sub, [leaf]).public_bytes(Encoding.DER),
    }
    (tmp_path / "leaf.pem").write_bytes(pki.pem(leaf))
    assert medmail(home, "trust", "add", root_file).exit == 0
    assert medmail(home, "contacts", "add", tmp_path / "leaf.pem").exit == 0
    return sub


def test_update_fetches_issuers_and_crls(home: Path, server: Files, waiting: pki.Authority) -> None:
    done = medmail(home, "trust", "update", "--allow-private", "--json")
    assert done.exit == 0, done
    fetched = {one["url"]: one["status"] for one in valid("trust update", done)[:-1]}
    assert fetched == {f"{server.url}{path}": "updated" for path in ("/moved", "/root.crl", "/sub.crl")}
    kinds = [one["kind"] for one in medmail(home, "trust", "list", "--json").objects[:-1]]
    assert sorted(kinds) == ["anchor", "crl", "crl", "intermediate"]
    (contact, _) = medmail(home, "contacts", "list", "--json").objects
    assert contact["certificates"][0]["problems"] == ["revoked"]
    again = medmail(home, "trust", "update", "--allow-private", "--json")
    assert {one["status"] for one in valid("trust update", again)[:-1]} == {"unchanged"}
    assert actions(home).count(("trust-update", "done")) == 3


def test_update_finds_an_issuer_among_many_and_reads_no_book_of_them(
    home: Path, server: Files, waiting: pki.Authority
) -> None:
    others = [pki.make_ca(f"Other {number}").certificate for number in range(20)]
    whole = pki.pem(*others, waiting.certificate)
    server.files["/sub.cer"] = whole + b"\n" * (1 << 20)
    done = medmail(home, "trust", "update", "--allow-private", "--json")
    assert done.objects[0]["code"] == "too-large"
    server.files["/sub.cer"] = whole
    done = medmail(home, "trust", "update", "--allow-private", "--json")
    assert done.objects[0]["status"] == "updated"
    kinds = [one["kind"] for one in medmail(home, "trust", "list", "--json").objects[:-1]]
    assert kinds.count("intermediate") == 1


def issuers(url: str) -> tuple[x509.ExtensionType, bool]:
    location = x509.UniformResourceIdentifier(url)
    return x509.AuthorityInformationAccess(
        [x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, location)]
    ), False


@pytest.mark.parametrize("bridged", [False, True])
def test_update_goes_round_a_root_that_is_not_trusted(
    home: Path, root_file: Path, server: Files, tmp_path: Path, bridged: bool
) -> None:
    """Another Order's root, which ours, or a bridge that ours certified, has certified too."""
    other, bridge = pki.make_ca("Other Root"), pki.make_ca("Bridge", parent=ROOT)
    own_root = pki._certify(
        bridge if bridged else ROOT, other.key, other.certificate.subject, pki.EPOCH, pki.FAR,
        [(x509.BasicConstraints(ca=True, path_length=None), True), issuers(f"{server.url}/bridge.cer")],
    )  # fmt: skip
    sub = pki.make_ca("Sub", parent=other, extensions=[issuers(f"{server.url}/roots.pem")])
    leaf, _ = pki.issue(sub, "dr.b@x.test", key_type="p256", extensions=[issuers(f"{server.url}/sub.pem")])
    server.files = {
        "/sub.pem": pki.pem(sub.certificate, other.certificate),
        "/roots.pem": pki.pem(other.certificate, own_root),
        "/bridge.cer": bridge.certificate.public_bytes(Encoding.DER),
    }
    (tmp_path / "leaf.pem").write_bytes(pki.pem(leaf))
    assert medmail(home, "trust", "add", root_file).exit == 0
    assert medmail(home, "contacts", "add", tmp_path / "leaf.pem").exit == 0
    assert medmail(home, "trust", "update", "--allow-private").exit == 0
    assert server.asked == ["/sub.pem", "/roots.pem", *(["/bridge.cer"] if bridged else [])]
    (contact, _) = medmail(home, "contacts", "list", "--json").objects
    assert contact["certificates"][0]["problems"] == []


def test_update_asks_no_private_address_unless_allowed(
    home: Path, server: Files, waiting: pki.Authority
) -> None:
    done = medmail(home, "trust", "update", "--json")
    (fetched, _) = valid("trust update", done)
    assert (fetched["status"], fetched["code"], done.exit) == ("failed", "address-refused", 1)
    assert server.asked == []


def test_update_keeps_no_forgery(home: Path, server: Files, waiting: pki.Authority) -> None:
    impostor = pki.make_ca("Sub")
    server.files["/sub.crl"] = pki.make_crl(impostor).public_bytes(Encoding.DER)
    server.files["/root.crl"] = b"nonsense"
    done = medmail(home, "trust", "update", "--allow-private", "--json")
    codes = {one["url"].rpartition("/")[2]: one["code"] for one in valid("trust update", done)[:-1]}
    assert codes == {"moved": None, "sub.crl": "bad-signature", "root.crl": "malformed"}
    assert done.exit == 3
    assert not list((home / "cache").rglob("*.crl"))


def test_update_follows_no_endless_redirection(home: Path, server: Files, waiting: pki.Authority) -> None:
    server.files |= {"/moved": "/moved"}
    done = medmail(home, "trust", "update", "--allow-private", "--json")
    assert done.objects[0]["code"] == "address-refused"
    assert server.asked == ["/moved"] * 4


def test_update_learns_no_issuer_that_leads_nowhere(
    home: Path, server: Files, waiting: pki.Authority
) -> None:
    server.files["/sub.cer"] = pki.make_ca("Sub").certificate.public_bytes(Encoding.DER)
    done = medmail(home, "trust", "update", "--allow-private", "--json")
    assert [one["status"] for one in done.objects[:-1]] == ["unchanged"]
    assert [one["kind"] for one in medmail(home, "trust", "list", "--json").objects[:-1]] == ["anchor"]


def test_times_are_as_the_certificates_have_them(home: Path, root_file: Path) -> None:
    (anchor, _) = medmail(home, "trust", "add", root_file, "--json").objects
    assert dt.datetime.fromisoformat(anchor["since"]) == pki.EPOCH
