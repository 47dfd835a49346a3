"""``medmail inbox``: what was fetched, listed and searched, and nothing from inside while locked."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jsonschema
import pytest

from medmail_cli.store.keys.keystore import Keystore
from medmail_cli.store.keys.unlocked import unlock
from medmail_cli.store.mail.mailbox import Mailbox
from tests.support.cli import PASSPHRASE, medmail
from tests.support.homes import make_home
from tests.support.letters import person
from tests.support.servers import sample

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = make_home(tmp_path, person("bob"))
    box = Mailbox(home / "mail")
    box.store("work", "INBOX", "1", [(str(n), sample(n)) for n in range(1, 4)], NOW)
    box.store("work", "Sent", "1", [("9", sample(9, subject="\x1b[31mred\u202e"))], NOW + timedelta(hours=1))
    first, second = box.list()[:2]
    subkey = unlock(Keystore(home / "keystore"), PASSPHRASE.encode()).subkey("learned")
    box.mark_opened(
        [
            (
                first.id,
                {"from": "Dr Élodie <e@x>", "subject": "SENTINEL Dupont", "trusted": True, "text": "VIH"},
            ),
            (second.id, {"from": "Mallory <m@x>", "subject": "Forged", "trusted": False}),
        ],
        subkey,
    )
    box.close()
    return home


def locked(home: Path) -> None:
    (home.parent / "home.passphrase").unlink()


def test_newest_first_with_what_is_inside(home: Path) -> None:
    done = medmail(home, "inbox")
    assert (done.exit, done.stderr) == (0, "")
    rows = [line.split("\t")[1:] for line in done.stdout.splitlines()]
    assert [row[0] for row in rows] == ["N", "N", "!", ""]
    assert [row[3] for row in rows] == ["\\x1b[31mred\\u202e", "Message 3", "Forged", "SENTINEL Dupont"]
    assert rows[3][2] == "Dr Élodie <e@x>"


def test_while_locked_nothing_from_inside(home: Path) -> None:
    locked(home)
    done = medmail(home, "inbox", "--json", "--no-input")
    assert done.exit == 0
    assert "SENTINEL" not in done.stdout
    assert [one["opened"] for one in done.objects[:-1]] == [False, False, True, True]
    assert all(one["inside"] is None for one in done.objects[:-1])
    assert not medmail(home, "inbox", "dupont", "--no-input").stdout


@pytest.mark.parametrize(
    ("argv", "uids"),
    [
        (["message", "3"], [3]),
        (["DUPONT"], [1]),
        (["vih"], [1]),
        (["--from", "elodie"], [1]),
        (["--folder", "sent"], [9]),
        (["--unopened"], [3]),
        (["--unopened", "--folder", "sent"], [9]),
        (["--since", "2026-11-01T00:03:00+00:00"], [9, 3]),
        (["nothing of the kind"], []),
    ],
)
def test_searching(home: Path, argv: list[str], uids: list[int]) -> None:
    done = medmail(home, "inbox", "--json", *argv)
    assert done.exit == 0
    message_ids = [one["message_id"] for one in done.objects[:-1]]
    assert message_ids == [f"<sample-{uid}@hosp.test>" for uid in uids]


def test_an_empty_mailbox(tmp_path: Path) -> None:
    done = medmail(tmp_path / "home", "inbox")
    assert (done.exit, done.stdout, done.stderr) == (0, "", "")
    assert not (tmp_path / "home").exists()


def test_a_damaged_index(home: Path) -> None:
    index = home / "mail" / "index.db"
    before = medmail(home, "inbox").stdout
    index.write_bytes(b"damaged" * 100)
    done = medmail(home, "inbox", "--json")
    assert (done.exit, done.objects[0]["code"]) == (7, "index-damaged")
    assert "--rebuild" in done.stderr
    assert str(index) in done.stderr
    assert medmail(home, "inbox", "--rebuild").exit == 0
    assert medmail(home, "inbox").stdout == before
    index.unlink()
    assert medmail(home, "inbox").stdout == before


def test_a_damaged_sealed_index(home: Path) -> None:
    (home / "mail" / "learned.db").write_bytes(b"damaged" * 100)
    done = medmail(home, "inbox", "--json")
    assert (done.exit, done.objects[0]["code"]) == (7, "store-damaged")
    assert "learned.db" in done.stderr


def test_wrong_usage(home: Path) -> None:
    assert medmail(home, "inbox", "--since", "yesterday").exit == 2
    assert medmail(home, "inbox", "--account", "none").exit == 78
    assert medmail(home, "fetch", "--json").objects[0]["code"] == "no-config"
    for argv in (["--folder", "a", "--all-folders"], ["--exec", "x"], ["--watch", "--all-accounts"]):
        assert medmail(home, "fetch", *argv).exit == 2


def test_rows_are_as_the_schema_says(home: Path) -> None:
    schema = medmail(home, "schema", "inbox")
    assert schema.exit == 0
    for one in medmail(home, "inbox", "--json").objects:
        jsonschema.validate(one, json.loads(schema.stdout))
