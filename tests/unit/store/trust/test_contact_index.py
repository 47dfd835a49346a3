"""Finding contacts by how their addresses look: the files count, the index only makes it cheap."""

import json
import os
import time
from pathlib import Path

import pytest

from medmail_cli.errors import MedmailError
from medmail_cli.store.trust.contacts import Contacts

CYRILLIC = "аnna@x.test"


def settle(folder: Path) -> None:
    """Let the last change of the folder have been a while ago."""
    then = time.time_ns() - 10_000_000_000
    os.utime(folder, ns=(then, then))


@pytest.fixture
def contacts(tmp_path: Path) -> Contacts:
    made = Contacts(tmp_path)
    made.set_reads("anna@x.test", "modern")
    made.set_reads("Bob@x.test", "modern")
    return made


def test_look_alikes_and_other_case_are_found(contacts: Contacts) -> None:
    assert contacts.resembling(CYRILLIC) == ("anna@x.test",)
    assert contacts.resembling("anna@x.test") == ()
    found = contacts.lookup("bOB@x.test")
    assert found is not None
    assert found.address == "Bob@x.test"
    assert contacts.lookup("carol@x.test") is None


def test_files_that_come_and_go_are_seen(contacts: Contacts, tmp_path: Path) -> None:
    settle(tmp_path)
    assert contacts.resembling(CYRILLIC) == ("anna@x.test",)
    contacts.remove("anna@x.test")
    assert contacts.resembling(CYRILLIC) == ()
    elsewhere = Contacts(tmp_path / "other")
    elsewhere.set_reads("Anna@x.test", "modern")
    (made,) = (tmp_path / "other").glob("*.json")
    made.rename(tmp_path / made.name)
    assert contacts.resembling(CYRILLIC) == ("Anna@x.test",)
    (tmp_path / made.name).unlink()
    assert contacts.resembling(CYRILLIC) == ()


def test_an_index_that_is_damaged_or_gone_is_made_anew(contacts: Contacts, tmp_path: Path) -> None:
    contacts.resembling(CYRILLIC)
    (index,) = (tmp_path / ".index").iterdir()
    assert index.stat().st_mode & 0o777 == 0o600
    index.write_bytes(b"no database at all, " * 100)
    assert contacts.resembling(CYRILLIC) == ("anna@x.test",)
    index.unlink()
    assert contacts.resembling(CYRILLIC) == ("anna@x.test",)


def test_a_damaged_contact_is_named(contacts: Contacts, tmp_path: Path) -> None:
    (tmp_path / f"{'0' * 32}.{'0' * 32}.json").write_text("[" * 100_000)
    with pytest.raises(MedmailError) as raised:
        contacts.resembling(CYRILLIC)
    assert raised.value.code == "store-damaged"


def test_nothing_is_asked_of_each_contact(
    contacts: Contacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the index stands, no other file is opened, and the folder is not listed."""
    settle(tmp_path)
    contacts.resembling(CYRILLIC)
    for number in range(20):
        contacts.set_reads(f"p{number}@x.test", "modern")
    contacts.remove("p1@x.test")

    def never(*_: object) -> object:
        raise AssertionError("looked through the contacts")

    monkeypatch.setattr(Path, "iterdir", never)
    monkeypatch.setattr(Path, "glob", never)
    monkeypatch.setattr(json, "loads", never)
    assert contacts.resembling(CYRILLIC) == ("anna@x.test",)
    assert contacts.lookup("nobody@x.test") is None
    assert contacts.lookup("P1@x.test") is None
