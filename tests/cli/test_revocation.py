"""What ``decrypt`` and ``send`` ask servers: only about chains under an anchor, and briefly."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID

from medmail_cli.smime.protect import protect
from medmail_cli.store.mail.mailbox import Mailbox
from medmail_cli.store.trust.anchors import Trust
from medmail_cli.store.trust.incomplete_chains import Incomplete
from tests.support import pki
from tests.support.cli import Done, medmail
from tests.support.homes import knowing, make_home
from tests.support.letters import NOW, Person, authority, letter, person
from tests.support.webserver import Files, serving

ROOT = authority("Health Root")
CONFIG = "fetch-private = true\n"


@pytest.fixture
def server() -> Iterator[Files]:
    with serving() as running:
        yield running


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return make_home(tmp_path, person("bob"))


@pytest.fixture(autouse=True)
def no_proxy_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def alice(files: Files, *, responder: bool = False, root: pki.Authority = ROOT) -> Person:
    """Alice, whose certificate names a list and perhaps a responder on the test's server."""
    access = x509.AccessDescription(
        AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(f"{files.url}/ocsp")
    )
    extensions = [(x509.AuthorityInformationAccess([access]), False)] if responder else []
    address = "alice@medecin.test"
    certificate, key = pki.issue(
        root, address, key_type="p256", crl_url=f"{files.url}/list.crl", extensions=extensions
    )
    return Person(address, certificate, key)


def from_(someone: Person, folder: Path) -> Path:
    path = folder / "letter.eml"
    bob = person("bob")
    made = protect(letter(), signer=someone.signer, recipients={bob.address: bob.certificate}, signed_at=NOW)
    path.write_bytes(made[0].message)
    return path


def judged(home: Path, path: Path | str, *options: str) -> tuple[list[str], list[str]]:
    done = medmail(home, "decrypt", path, "--json", *options)
    (verdict,) = (one for one in done.objects if one["type"] == "message")
    return codes(verdict["problems"]), codes(verdict["notes"])


def codes(found: list[dict[str, Any]]) -> list[str]:
    return [one["code"] for one in found]


def crl(*revoked: x509.Certificate) -> bytes:
    now = dt.datetime.now(dt.UTC)
    return pki.make_crl(ROOT, revoked, at=now - dt.timedelta(hours=1)).public_bytes(Encoding.DER)


def test_a_revocation_is_asked_for_once_and_kept(home: Path, tmp_path: Path, server: Files) -> None:
    (home / "config.toml").write_text(CONFIG)
    someone = alice(server)
    path = from_(someone, tmp_path)
    server.files["/list.crl"] = crl(someone.certificate)
    assert judged(home, path)[0] == ["revoked"]
    assert judged(home, path)[0] == ["revoked"]
    assert judged(home, path, "--offline")[0] == ["revoked"]
    assert server.asked == ["/list.crl"]
    entries = medmail(home, "audit", "log", "--json").objects
    assert "trust-update" in [one.get("action") for one in entries]


def test_an_old_letter_is_judged_by_what_is_known_today(home: Path, tmp_path: Path, server: Files) -> None:
    """The list at hand speaks for the day the letter came; the certificate was revoked since."""
    (home / "config.toml").write_text(CONFIG)
    someone, hour = alice(server), dt.timedelta(hours=1)
    then = pki.make_crl(ROOT, at=NOW - hour, next_update=NOW + hour)
    Trust(home / "trust", home / "cache").add(then.public_bytes(Encoding.DER), "list")
    mailbox = Mailbox(home / "mail")
    ((stored, _),) = mailbox.store("work", "INBOX", "1", [("1", from_(someone, tmp_path).read_bytes())], NOW)
    mailbox.close()
    assert judged(home, stored.id, "--offline") == ([], [])
    revoked = pki.make_crl(ROOT, [someone.certificate], at=NOW + 2 * hour, revoked_at=NOW + hour, number=2)
    server.files["/list.crl"] = revoked.public_bytes(Encoding.DER)
    assert judged(home, stored.id)[0] == ["revoked"]
    assert judged(home, stored.id, "--offline")[0] == ["revoked"]
    assert judged(home, stored.id, "--at", NOW.isoformat())[0] == []
    assert server.asked == ["/list.crl"]


def test_a_list_that_clears_leaves_no_doubt(home: Path, tmp_path: Path, server: Files) -> None:
    (home / "config.toml").write_text(CONFIG)
    path = from_(alice(server), tmp_path)
    server.files["/list.crl"] = crl()
    assert judged(home, path) == ([], [])


def test_a_list_signed_with_sha1_revokes_and_leaves_the_doubt(
    home: Path, tmp_path: Path, server: Files
) -> None:
    (home / "config.toml").write_text(CONFIG)
    someone, now = alice(server), dt.datetime.now(dt.UTC)
    path = from_(someone, tmp_path)
    server.files["/list.crl"] = pki.weakly_signed(crl(), ROOT.key)
    assert judged(home, path) == ([], ["revocation-unknown"])
    newer = pki.make_crl(ROOT, [someone.certificate], at=now - dt.timedelta(minutes=30), number=2)
    server.files["/list.crl"] = pki.weakly_signed(newer.public_bytes(Encoding.DER), ROOT.key)
    assert judged(home, path)[0] == ["revoked"]
    assert judged(home, path, "--offline")[0] == ["revoked"]


def test_a_good_answer_signed_with_sha1_is_not_kept_and_the_list_asked(
    home: Path, tmp_path: Path, server: Files
) -> None:
    (home / "config.toml").write_text(CONFIG)
    someone, now = alice(server, responder=True), dt.datetime.now(dt.UTC)
    good = pki.make_ocsp(ROOT, someone.certificate, at=now - dt.timedelta(hours=1))
    weak = pki.of_response(good, lambda basic: pki.weakly_signed(basic, ROOT.key))
    server.posts["/ocsp"] = lambda _body: weak
    server.files["/list.crl"] = crl()
    assert judged(home, from_(someone, tmp_path)) == ([], [])
    assert server.asked == ["POST /ocsp", "/list.crl"]
    assert Trust(home / "trust", home / "cache").ocsp(someone.certificate) == ()


def test_a_hold_is_asked_about_once_it_is_out_of_date(home: Path, tmp_path: Path, server: Files) -> None:
    (home / "config.toml").write_text(CONFIG)
    someone, now, hour = alice(server, responder=True), dt.datetime.now(dt.UTC), dt.timedelta(hours=1)
    path = from_(someone, tmp_path)
    when: dict[str, Any] = {"revoked_at": now - 9 * hour, "reason": x509.ReasonFlags.certificate_hold}
    held = pki.make_ocsp(ROOT, someone.certificate, at=now - 3 * hour, next_update=now - 2 * hour, **when)
    assert Trust(home / "trust", home / "cache").keep_ocsp(someone.certificate, held)
    assert judged(home, path, "--offline")[0] == ["revoked"]
    good = pki.make_ocsp(ROOT, someone.certificate, at=now - hour)
    server.posts["/ocsp"] = lambda _body: good
    assert judged(home, path) == ([], [])
    assert server.asked == ["POST /ocsp"]


def test_a_responder_is_asked_before_the_list(home: Path, tmp_path: Path, server: Files) -> None:
    (home / "config.toml").write_text(CONFIG)
    someone = alice(server, responder=True)

    def answer(body: bytes) -> bytes:
        asked = ocsp.load_der_ocsp_request(body)
        assert asked.serial_number == someone.certificate.serial_number
        now = dt.datetime.now(dt.UTC)
        builder = ocsp.OCSPResponseBuilder().add_response(
            someone.certificate, ROOT.certificate, hashes.SHA1(), ocsp.OCSPCertStatus.REVOKED,  # noqa: S303 - a name
            now - dt.timedelta(hours=1), now + dt.timedelta(hours=1), now - dt.timedelta(days=1), None,
        )  # fmt: skip
        builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, ROOT.certificate)
        return builder.sign(ROOT.key, hashes.SHA256()).public_bytes(Encoding.DER)  # type: ignore[arg-type]

    server.posts["/ocsp"] = answer
    path = from_(someone, tmp_path)
    assert judged(home, path)[0] == ["revoked"]
    assert judged(home, path, "--offline")[0] == ["revoked"]
    assert server.asked == ["POST /ocsp"]


@pytest.mark.parametrize("why", ["offline", "private", "untrusted"])
def test_nothing_is_asked(home: Path, tmp_path: Path, server: Files, why: str) -> None:
    someone = alice(server, responder=True, root=pki.make_ca("Stranger") if why == "untrusted" else ROOT)
    path = from_(someone, tmp_path)
    if why != "private":
        (home / "config.toml").write_text(CONFIG)
    problems, notes = judged(home, path, *(["--offline"] if why == "offline" else []))
    assert problems == (["untrusted-issuer"] if why == "untrusted" else [])
    assert notes == ([] if why == "untrusted" else ["revocation-unknown"])
    assert server.asked == []


def test_a_server_that_fails_is_not_asked_again_for_a_while(
    home: Path, tmp_path: Path, server: Files
) -> None:
    (home / "config.toml").write_text(CONFIG)
    path = from_(alice(server), tmp_path)
    for _ in range(3):
        assert judged(home, path) == ([], ["revocation-unknown"])
    assert server.asked == ["/list.crl"]


@pytest.mark.parametrize(
    "wrong", [b"junk", b"", crl()[:-20], pki.make_crl(pki.make_ca("Other")).public_bytes(Encoding.DER)]
)
def test_what_is_no_list_of_the_issuer_changes_nothing(
    home: Path, tmp_path: Path, server: Files, wrong: bytes
) -> None:
    (home / "config.toml").write_text(CONFIG)
    server.files["/list.crl"] = wrong
    assert judged(home, from_(alice(server), tmp_path)) == ([], ["revocation-unknown"])
    assert not list((home / "cache").glob("crls/*"))


def test_a_person_is_told_whom_we_ask(home: Path, tmp_path: Path, server: Files) -> None:
    (home / "config.toml").write_text(CONFIG)
    server.files["/list.crl"] = crl()
    done: Done = medmail(home, "decrypt", from_(alice(server), tmp_path), "-v")
    assert done.exit == 0
    assert "Asking" in done.stderr
    assert medmail(home, "decrypt", tmp_path / "letter.eml").stderr == ""


def test_a_recipient_s_certificate_is_asked_about_before_a_letter_is_encrypted_to_it(
    tmp_path: Path, server: Files
) -> None:
    carol = person("carol")
    home = make_home(tmp_path, carol)
    (tmp_path / "hard.toml").write_text('revocation = "hard"\n')
    (home / "config.toml").write_text(
        f'profile = "{tmp_path}/hard.toml"\n{CONFIG}[accounts.work]\naddress = "{carol.address}"\n'
        'smtp = { host = "127.0.0.1", port = 1, security = "tls" }\n'
    )
    someone = alice(server)
    knowing(home, someone.address, someone.certificate)
    words = ("send", "--to", someone.address, "--dry-run", "--json", "-")

    def why(*options: str) -> str | None:
        done = medmail(home, *words, *options, stdin=b"x\n")
        found = [one for one in done.objects if one["type"] == "recipient"]
        return found[0].get("detail") if done.exit == 5 else None

    assert why("--offline") == "revocation-unknown"
    assert server.asked == []
    server.files["/list.crl"] = crl(someone.certificate)
    assert why() == "revoked"
    assert why("--offline") == "revoked"
    assert server.asked == ["/list.crl"]


def test_a_signers_missing_issuer_is_fetched_by_an_update_and_not_by_reading(
    home: Path, tmp_path: Path, server: Files
) -> None:
    """The letter brings no intermediate; its signer's certificate says where it is."""
    (home / "config.toml").write_text(CONFIG)
    sub = pki.make_ca("Sub", parent=ROOT)
    place = x509.UniformResourceIdentifier(f"{server.url}/sub.cer")
    access = x509.AuthorityInformationAccess(
        [x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, place)]
    )
    certificate, key = pki.issue(sub, "alice@medecin.test", key_type="p256", extensions=[(access, False)])
    path = from_(Person("alice@medecin.test", certificate, key), tmp_path)
    assert judged(home, path)[0] == ["untrusted-issuer"]
    assert server.asked == []
    # nobody answers: it is asked again
    assert medmail(home, "trust", "update").exit == 75
    assert judged(home, path)[0] == ["untrusted-issuer"]
    server.files["/sub.cer"] = sub.certificate.public_bytes(Encoding.DER)
    assert medmail(home, "trust", "update").exit == 0
    assert judged(home, path)[0] == []
    assert server.asked == ["/sub.cer", "/sub.cer"]
    assert not list((home / "cache/incomplete").iterdir())


def test_only_so_many_strangers_are_remembered(tmp_path: Path) -> None:
    folder = tmp_path / "incomplete"
    kept = Incomplete(folder)
    strangers = [pki.issue(ROOT, "a@x.test", key_type="p256")[0] for _ in range(70)]
    for stranger in strangers:
        kept.add([stranger, ROOT.certificate])
    found = dict(kept.all())
    assert len(found) == 64
    assert found[strangers[-1]] == [ROOT.certificate]
    (folder / "junk.pem").write_bytes(b"junk")
    assert len(dict(kept.all())) == 64
