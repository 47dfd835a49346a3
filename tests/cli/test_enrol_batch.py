"""``medmail enrol batch`` and ``merge`` as registrars and their scripts see them."""

import json
import shlex
import subprocess
from pathlib import Path

import pexpect
import pytest
from cryptography.x509 import load_pem_x509_certificate

from medmail_cli.sandbox.operator import Operator
from medmail_cli.workflows.audit import read_entries
from tests.support.cli import MEDMAIL, PASSPHRASE, medmail
from tests.support.rosters import enrol, environment, person, registrar, report, roster, rows, rpps
from tests.support.tools import require, run


@pytest.fixture
def home(operator: Operator, tmp_path: Path) -> Path:
    return registrar(tmp_path, operator)


@pytest.fixture
def ten(tmp_path: Path) -> Path:
    return roster(tmp_path / "ten.csv", map(person, range(10)))


def issued(operator: Operator, since: int = 0) -> list[str]:
    return sorted(f"{one.serial_number:x}" for one in operator.authority.issued[since:])


def test_everybody_gets_a_home_that_sends_and_opens(
    operator: Operator, home: Path, ten: Path, tmp_path: Path
) -> None:
    before = len(operator.authority.issued)
    root = operator.authority.fingerprint
    done = enrol(
        home, ten, "--out-dir", tmp_path / "out", "--report", tmp_path / "r.jsonl", "--ca-fingerprint", root
    )
    assert (done.exit, done.objects[-1]["counts"]) == (0, {"enrolment": 10, "enrolled": 10})
    found = rows(done)
    assert found["p3@medecin.test"]["others"] == {"floor": "1"}
    assert {one["serial"] for one in found.values()} == set(issued(operator, before))
    # a person takes the home away, and needs nothing but its password
    theirs = tmp_path / "out" / "p3@medecin.test"
    secret = Path(found["p3@medecin.test"]["password_file"])
    (tmp_path / "out" / "p3@medecin.test.passphrase").write_bytes(secret.read_bytes())
    letter = medmail(
        theirs,
        "send",
        "--to",
        "p3@medecin.test",
        "--subject",
        "x",
        "-o",
        tmp_path / "l.eml",
        "-",
        stdin=b"me\n",
    )
    assert letter.exit == 0, letter.stderr
    opened = medmail(theirs, "decrypt", "--offline", tmp_path / "l.eml", "--json")
    assert (opened.exit, opened.objects[0]["text"]) == (0, "me\n")
    (signer,) = opened.objects[0]["signature"]["signers"]
    assert "Dr Élise P3" in signer["subject"]
    assert rpps(3) in signer["subject"]
    # whom it trusts stands in its log from the first
    actions = [one.action for one in read_entries(theirs / "audit") if root in one.objects]
    assert (actions[0], "trust-adopt" in actions) == ("trust-add", False)
    assert medmail(theirs, "audit", "verify").exit == 0
    assert theirs.stat().st_mode & 0o77 == 0
    assert secret.stat().st_mode & 0o77 == 0
    # and may go on by themselves: servers and authority are set up
    assert medmail(theirs, "config", "show").exit == 0
    assert medmail(theirs, "enrol", "renew", "--all").exit == 0


def test_run_again_it_changes_nothing(operator: Operator, home: Path, ten: Path, tmp_path: Path) -> None:
    options = ("--out-dir", tmp_path / "out", "--report", tmp_path / "r.jsonl")
    first = enrol(home, ten, *options)
    before = len(operator.authority.issued)
    again = enrol(home, ten, *options)
    assert (again.exit, again.objects[-1]["counts"]) == (0, {"enrolment": 10, "unchanged": 10})
    assert len(operator.authority.issued) == before
    assert {one["sha256"] for one in rows(again).values()} == {one["sha256"] for one in rows(first).values()}
    assert report(tmp_path / "r.jsonl")[-1] == {
        "type": "summary", "rows": 10, "counts": {"unchanged": 10}, "exit": 0,
    }  # fmt: skip
    # somebody new is enrolled alone
    roster(ten, map(person, range(12)))
    more = enrol(home, ten, "--out-dir", tmp_path / "out")
    assert more.objects[-1]["counts"] == {"enrolment": 12, "enrolled": 2, "unchanged": 10}
    assert len(operator.authority.issued) == before + 2


def test_pkcs12_files_and_letters_that_openssl_opens(home: Path, ten: Path, tmp_path: Path) -> None:
    require("openssl")
    out, letters = tmp_path / "out", tmp_path / "letters"
    done = enrol(home, ten, "--out-dir", out, "--p12", "--letters", letters)
    assert done.exit == 0
    one = rows(done)["p7@medecin.test"]
    assert one["saved_as"] == str(out / "p7@medecin.test.p12")
    assert one["password_file"] == str(letters / "p7@medecin.test.txt")
    said = Path(one["password_file"]).read_text("utf-8")
    assert "Dr Élise P7" in said
    assert "medmail enrol import" in said
    (password,) = (line.strip() for line in said.splitlines() if line.count("-") == 3)
    (tmp_path / "password").write_text(password)
    shown = run(
        "openssl", "pkcs12", "-in", one["saved_as"], "-passin", f"file:{tmp_path / 'password'}", "-nodes"
    ).stdout  # fmt: skip
    certificate = load_pem_x509_certificate(shown[shown.index(b"-----BEGIN CERT") :])
    assert f"{certificate.serial_number:x}" == one["serial"]
    assert b"PRIVATE KEY" in shown
    # as the letter says
    mine = tmp_path / "mine"
    (tmp_path / "mine.passphrase").write_text(PASSPHRASE)
    taken = medmail(
        mine, "enrol", "import", one["saved_as"], "--p12-password-file", tmp_path / "password", "--json"
    )
    assert [each["address"] for each in taken.objects if each["type"] == "enrolment"] == ["p7@medecin.test"]
    # the password is in the letter and nowhere else, and no key lies open
    for path in [*out.rglob("*"), *home.rglob("*")]:
        if path.is_file():
            assert password.encode() not in path.read_bytes()
            assert b"PRIVATE KEY" not in path.read_bytes()
    assert list((out / ".pending").iterdir()) == []


def test_faulty_rows_are_all_told_and_nothing_is_asked(
    operator: Operator, home: Path, tmp_path: Path
) -> None:
    path = roster(
        tmp_path / "r.csv", [person(0), person(1, rpps="123"), person(2), person(0), person(3, address="x")]
    )
    before = len(operator.authority.issued)
    done = enrol(home, path, "--out-dir", tmp_path / "out")
    assert (done.exit, done.objects[-1]["code"]) == (1, "faulty-rows")
    faults = [(one["line"], one["column"], one["reason"]) for one in done.objects[:-1]]
    assert faults == [
        (3, "rpps", "bad-rpps"), (5, "address", "duplicate-address"), (6, "address", "bad-address"),
    ]  # fmt: skip
    assert len(operator.authority.issued) == before
    assert not (tmp_path / "out").exists()
    some = enrol(home, path, "--out-dir", tmp_path / "out", "--skip-faulty")
    assert (some.exit, some.objects[-1]["counts"]) == (3, {"fault": 3, "enrolment": 2, "enrolled": 2})


def test_at_a_terminal_the_end_says_how_many_came_to_what(home: Path, tmp_path: Path) -> None:
    path = roster(tmp_path / "r.csv", [*map(person, range(4)), person(5, address="x")])
    out = tmp_path / "out"
    (out / "p1@medecin.test").mkdir(parents=True)
    words = ["enrol", "batch", str(path), "--key", "p256", "--skip-faulty", "--out-dir", str(out)]
    shown = str(
        pexpect.run(shlex.join([MEDMAIL, *words]), env=environment(home), encoding="utf-8", timeout=60)
    )
    assert "3 enrolled · 1 failed · 1 faulty" in shown
    assert "4 of 4 people" in shown


def test_a_dry_run_touches_nothing(operator: Operator, home: Path, ten: Path, tmp_path: Path) -> None:
    before = len(operator.authority.issued), sorted(home.rglob("*"))
    done = enrol(home, ten, "--dry-run", "--out-dir", tmp_path / "out", "--only", "group=g1")
    assert (done.exit, list(rows(done))) == (0, [f"p{n}@medecin.test" for n in (1, 4, 7)])
    assert not (tmp_path / "out").exists()
    assert (len(operator.authority.issued), sorted(home.rglob("*"))) == before


def test_a_dry_run_knows_who_is_enrolled_already(home: Path, ten: Path, tmp_path: Path) -> None:
    out = ("--out-dir", tmp_path / "out")
    assert enrol(home, ten, *out, "--only", "group=g1").exit == 0
    before = sorted(tmp_path.rglob("*"))
    found = rows(enrol(home, ten, *out, "--dry-run"))
    assert {address for address, row in found.items() if row["status"] == "unchanged"} == {
        f"p{n}@medecin.test" for n in (1, 4, 7)
    }
    assert {row["status"] for row in found.values()} == {"unchanged", "ready"}
    assert sorted(tmp_path.rglob("*")) == before


def test_a_dry_run_tells_how_the_headings_are_understood(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "roster.csv"
    path.write_text("address;Nom;Prénom;Étage\na@medecin.test;DUPONT;Jeanne;3\n", "utf-8")
    done = enrol(home, path, "--dry-run")
    (columns,) = [one for one in done.objects if one["type"] == "columns"]
    assert columns["read"] == {"address": ["address"], "name": ["Nom", "Prénom"]}
    assert columns["kept"] == ["Étage"]
    shown = medmail(home, "enrol", "batch", path, "--dry-run")
    assert (shown.exit, shown.stderr) == (0, "")
    assert "name\tNom, Prénom\nonly kept\tÉtage\n" in shown.stdout


def test_homes_ask_about_revocation_where_the_registrar_does(home: Path, ten: Path, tmp_path: Path) -> None:
    out, config = tmp_path / "out", home / "config.toml"
    assert "fetch-private = true" in config.read_text()
    assert enrol(home, ten, "--out-dir", out, "--only", "group=g1").exit == 0
    assert "fetch-private = true" in (out / "p1@medecin.test" / "config.toml").read_text()
    config.write_text(config.read_text().replace("fetch-private = true", ""))
    assert enrol(home, ten, "--out-dir", out, "--only", "group=g2").exit == 0
    assert "fetch-private" not in (out / "p2@medecin.test" / "config.toml").read_text()


def test_only_takes_any_column(home: Path, ten: Path) -> None:
    def chosen(*only: str) -> list[str]:
        words = [word for one in only for word in ("--only", one)]
        return list(rows(enrol(home, ten, "--dry-run", *words)))

    assert chosen("group=G1", "group=g2", "floor=0") == [f"p{n}@medecin.test" for n in (2, 4, 8)]
    nobody = enrol(home, ten, "--dry-run", "--only", "group=nobody")
    assert (nobody.exit, nobody.objects[-1]["code"]) == (2, "nobody-chosen")
    assert "g0, g1, g2" in nobody.stderr
    assert enrol(home, ten, "--dry-run", "--only", "group=g1", "--only", "floor=nowhere").exit == 2
    assert enrol(home, ten, "--dry-run", "--only", "g1").exit == 2
    # a column that is not there would silently choose nobody
    misspelt = enrol(home, ten, "--dry-run", "--only", "gruppe=g1")
    assert (misspelt.exit, misspelt.objects[-1]["code"]) == (2, "nobody-chosen")


def test_only_takes_the_extraction_s_own_columns(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "extraction.txt"
    path.write_text(
        "Adresse BAL|Nom d'exercice|Libellé savoir-faire|Code postal structure BAL|\n"
        "a@medecin.test|A|Cardiologie|29200|\nb@medecin.test|B|Cardiologie|75001|\n"
        "c@medecin.test|C|Urologie|29200|\n",
        "utf-8",
    )
    for only, expected in [
        (("Libellé savoir-faire=cardiologie",), "ab"),
        (("role=Cardiologie", "code postal structure bal=29200"), "a"),
    ]:
        words = [word for one in only for word in ("--only", one)]
        found = rows(enrol(home, path, "--dry-run", *words))
        assert list(found) == [f"{one}@medecin.test" for one in expected]


def test_shards_divide_the_roster_and_their_reports_join(home: Path, ten: Path, tmp_path: Path) -> None:
    roster(ten, [*map(person, range(30)), person(99, address="faulty")])
    reports = [tmp_path / f"{index}.jsonl" for index in range(3)]
    seen: list[str] = []
    for index, path in enumerate(reports):
        options = ("--out-dir", tmp_path / "out", "--skip-faulty", "--report", path)
        done = enrol(home, ten, "--shard", f"{index}/3", *options)
        assert done.exit == 3
        seen += rows(done)
    assert sorted(seen) == sorted(f"p{n}@medecin.test" for n in range(30))
    whole = tmp_path / "all.jsonl"
    joined = medmail(home, "enrol", "merge", *reports, "-o", whole, "--json")
    assert (joined.exit, joined.objects[-1]["counts"]) == (3, {"fault": 1, "enrolment": 30, "enrolled": 30})
    assert [line.get("line") for line in report(whole)[1:-1]] == list(range(2, 33))
    # run in one piece it finds everything done
    once = enrol(home, ten, "--out-dir", tmp_path / "out", "--skip-faulty")
    assert once.objects[-1]["counts"] == {"fault": 1, "enrolment": 30, "unchanged": 30}

    def refused(*paths: Path) -> str:
        done = medmail(home, "enrol", "merge", *paths, "--json")
        assert done.exit == 1
        return str(done.objects[-1]["code"])

    assert refused(*reports[:2]) == "shards-missing"
    assert refused(*reports, reports[0]) == "shard-twice"
    other = tmp_path / "other.jsonl"
    lines = reports[2].read_text("utf-8").splitlines(keepends=True)
    other.write_text(lines[0].replace(json.loads(lines[0])["roster"], "0" * 64) + "".join(lines[1:]), "utf-8")
    assert refused(*reports[:2], other) == "other-roster"
    other.write_text("".join(lines[:-1]), "utf-8")
    assert refused(*reports[:2], other) == "report-incomplete"
    mixed = "".join([*lines[:-1], report_line(reports[0]), lines[-1].replace('"rows": ', '"rows": 1')])
    other.write_text(mixed, "utf-8")
    assert refused(*reports[:2], other) == "report-incomplete"
    rows_there = json.loads(lines[-1])["rows"]
    twice = lines[-1].replace(f'"rows": {rows_there}', f'"rows": {rows_there + 1}')
    other.write_text("".join([*lines[:-1], report_line(reports[0]), twice]), "utf-8")
    assert refused(*reports[:2], other) == "row-twice"


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ('"line": "2"', '"line": 2'),
        ('"address": 5', '"address": "p0@medecin.test"'),
        ('"others": ["1"]', '"others": {"floor": "0"}'),
        ('"status": "splendid"', '"status": "ready"'),
        ('"code": "\\ud800"', '"code": null'),
        ('"shard": [3, 1]', '"shard": [0, 1]'),
        ('"shard": [0, 999999999999]', '"shard": [0, 1]'),
        ("[" * 100_000, ""),
    ],
)
def test_what_no_batch_has_written_is_not_merged(home: Path, tmp_path: Path, wrong: str, right: str) -> None:
    one, path = roster(tmp_path / "one.csv", [person(0)]), tmp_path / "r.jsonl"
    assert enrol(home, one, "--dry-run", "--report", path).exit == 0
    assert medmail(home, "enrol", "merge", path).exit == 0
    text = path.read_text("utf-8")
    assert right in text
    path.write_text(text.replace(right, wrong, 1), "utf-8")
    done = medmail(home, "enrol", "merge", path, "--json")
    assert (done.exit, done.objects[-1]["code"]) == (1, "report-incomplete")


def report_line(path: Path) -> str:
    """The first person's line."""
    return next(line + "\n" for line in path.read_text("utf-8").splitlines() if '"serial"' in line)


def test_a_report_replaces_its_own_kind_alone(
    operator: Operator, home: Path, ten: Path, tmp_path: Path
) -> None:
    path, before = tmp_path / "r.jsonl", len(operator.authority.issued)
    path.write_text("my notes\n")
    done = enrol(home, ten, "--out-dir", tmp_path / "out", "--report", path)
    assert (done.exit, done.objects[-1]["code"]) == (1, "exists")
    assert path.read_text() == "my notes\n"
    assert len(operator.authority.issued) == before
    assert enrol(home, ten, "--dry-run", "--report", path, "--force").exit == 0
    assert enrol(home, ten, "--out-dir", tmp_path / "out", "--report", path).exit == 0
    assert report(path)[-1]["counts"] == {"enrolled": 10}
    # a dry run is no proof of anything, and takes none away
    dry = enrol(home, ten, "--dry-run", "--report", path)
    assert (dry.exit, dry.objects[-1]["code"]) == (1, "exists")
    assert report(path)[-1]["counts"] == {"enrolled": 10}


def test_a_second_process_waits_for_its_turn(home: Path, tmp_path: Path) -> None:
    many = roster(tmp_path / "many.csv", map(person, range(150)))
    words = ["enrol", "batch", str(many), "--key", "p256", "--out-dir", str(tmp_path / "out"), "--json"]
    with subprocess.Popen([MEDMAIL, *words], env=environment(home), stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        first.stdout.readline()
        second = enrol(home, many, "--out-dir", tmp_path / "out")
        assert (second.exit, second.objects[-1]["code"]) == (75, "store-busy")
        first.stdout.read()
    assert first.returncode == 0


def test_no_two_divisions_of_a_roster_run_at_once(home: Path, tmp_path: Path) -> None:
    """Whoever is in a shard is in the whole too, and would be asked for twice."""
    many = roster(tmp_path / "many.csv", map(person, range(400)))
    words = ["enrol", "batch", str(many), "--key", "p256", "--out-dir", str(tmp_path / "out"), "--json"]
    first_words = [MEDMAIL, *words, "--shard", "0/2"]
    with subprocess.Popen(first_words, env=environment(home), stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        first.stdout.readline()
        for shard in ([], ["--shard", "0/3"]):
            other = enrol(home, many, "--out-dir", tmp_path / "out", *shard)
            assert (other.exit, other.objects[-1].get("code")) == (75, "store-busy")
        assert enrol(home, many, "--out-dir", tmp_path / "out", "--shard", "1/2").exit == 0
        first.stdout.read()
    assert first.returncode == 0


def test_addresses_as_long_as_they_may_be(home: Path, tmp_path: Path) -> None:
    domain = f"{'b' * 58}.{'b' * 58}.{'c' * 50}.medecin.test"
    addresses = [f"{'y' * 64}@{domain}", f"{'y' * 64}@d{domain[1:]}", f"{'é' * 32}@{domain[30:]}"]
    path = roster(tmp_path / "r.csv", [person(n, address=one) for n, one in enumerate(addresses)])
    done = enrol(home, path, "--out-dir", tmp_path / "out", "--p12", "--letters", tmp_path / "letters")
    assert done.exit == 0, done
    found = rows(done)
    assert all(Path(found[one]["saved_as"]).is_file() for one in addresses)
    assert len({one["saved_as"] for one in found.values()}) == len(addresses)


def test_no_certificate_is_asked_for_that_could_not_be_laid_down(
    operator: Operator, home: Path, ten: Path, tmp_path: Path
) -> None:
    (tmp_path / "out" / "p3@medecin.test").mkdir(parents=True)
    before = len(operator.authority.issued)
    done = enrol(home, ten, "--out-dir", tmp_path / "out")
    assert (done.exit, done.objects[-1]["counts"]["enrolled"]) == (3, 9)
    failed = rows(done)["p3@medecin.test"]
    assert (failed["code"], failed["requests"]) == ("exists", 0)
    assert failed["detail"] == str(tmp_path / "out" / "p3@medecin.test")
    assert len(operator.authority.issued) == before + 9


def test_hostile_rows_stay_in_their_folder(operator: Operator, home: Path, tmp_path: Path) -> None:
    names = ["a/b", "%2e%2e", "-rf", "~root", "$HOME", "x'y"]
    path = roster(
        tmp_path / "r.csv", [person(n, address=f"{name}@medecin.test") for n, name in enumerate(names)]
    )
    done = enrol(home, path, "--out-dir", tmp_path / "out", "--p12")
    assert done.exit == 0, done.stderr
    made = {Path(one["saved_as"]) for one in rows(done).values()}
    assert len(made) == len(names)
    assert {one.parent for one in made} == {tmp_path / "out"}
    assert PASSPHRASE not in done.stdout


def test_homes_that_will_trust_no_root_are_told_of_in_time(
    operator: Operator, home: Path, ten: Path, tmp_path: Path
) -> None:
    done = enrol(home, ten, "--out-dir", tmp_path / "out")
    assert done.exit == 0
    note = done.objects[0]
    assert (note["type"], note["code"]) == ("note", "homes-trust-no-root")
    assert operator.authority.fingerprint in note["message"]
    vouched = ("--ca-fingerprint", operator.authority.fingerprint)
    for options in (vouched, ("--p12",)):
        done = enrol(home, ten, "--out-dir", tmp_path / options[0], *options)
        assert (done.exit, [one for one in done.objects if one["type"] == "note"]) == (0, [])


def test_a_dry_run_knows_the_authority_named(home: Path, ten: Path, tmp_path: Path) -> None:
    done = medmail(
        home, "enrol", "batch", ten, "--dry-run", "--ca", "nobody", "--out-dir", tmp_path / "out", "--json"
    )
    assert (done.exit, done.objects[-1]["code"]) == (1, "not-found")


def test_a_report_on_stdin_is_merged(home: Path, ten: Path, tmp_path: Path) -> None:
    paths = [tmp_path / f"{index}.jsonl" for index in range(2)]
    for index, path in enumerate(paths):
        done = medmail(
            home, "enrol", "batch", ten, "--dry-run", "--shard", f"{index}/2", "--report", path, "--json"
        )
        assert done.exit == 0
    done = medmail(home, "enrol", "merge", paths[0], "-", "--json", stdin=paths[1].read_bytes())
    assert (done.exit, done.objects[-1]["counts"]["enrolment"]) == (0, 10)
    done = medmail(home, "enrol", "merge", "-", "-", "--json", stdin=paths[1].read_bytes())
    assert (done.exit, done.objects[-1]["code"]) == (2, "stdin-twice")
