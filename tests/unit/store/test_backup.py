"""The whole keystore in one file, and back."""

import datetime as dt
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medmail_cli.errors import MedmailError
from medmail_cli.store.backup import read_backup, restore_backup, write_backup
from medmail_cli.store.keystore import Keystore, Unlocked
from medmail_cli.store.seal import Cost
from tests.support import pki

CHEAP = Cost(memory=64, passes=1, lanes=1)
NOW = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)
CA = pki.make_ca()
PAIRS = [pki.issue(CA, f"p{i}@x.test", "both", "p256") for i in range(3)]
PLACE = Path("keystore.medmail")


def make(folder: Path, count: int) -> Unlocked:
    store = Keystore(folder, CHEAP).create(b"old", NOW)
    for certificate, key in PAIRS[:count]:
        store.add(key, certificate, addresses=["p@x.test"], purpose="both", method="import", now=NOW)
    return store


@settings(max_examples=15, deadline=None)
@given(
    count=st.integers(0, 3),
    passphrase=st.binary(min_size=1, max_size=30),
    checkpoint=st.none() | st.text("abc \n—", max_size=40).map(str.encode),
)
def test_what_was_saved_comes_back_whole(
    tmp_path_factory: pytest.TempPathFactory, count: int, passphrase: bytes, checkpoint: bytes | None
) -> None:
    folder = tmp_path_factory.mktemp("backup")
    store = make(folder / "a", count)
    data = write_backup(store, passphrase, checkpoint, NOW, CHEAP)
    saved = read_backup(data, PLACE, lambda: passphrase)
    assert saved.checkpoint == checkpoint
    restored = restore_backup(Keystore(folder / "b", CHEAP), saved, b"new")
    assert restored.identities() == store.identities()
    assert restored.subkey("index") == store.subkey("index")
    assert [restored.unseal(one).public_key() for one in restored.identities()] == [
        store.unseal(one).public_key() for one in store.identities()
    ]
    Keystore(folder / "b").unlock(b"new")
    files = [
        {path.name: path.read_bytes() for path in (folder / one).rglob("*.*") if path.name != "keystore.json"}
        for one in "ab"
    ]
    assert files[0] == files[1]


def test_a_flip_of_any_byte_of_a_backup_is_noticed(tmp_path: Path) -> None:
    data = write_backup(make(tmp_path / "a", 1), b"secret", None, NOW, CHEAP)
    for place in range(len(data)):
        flipped = data[:place] + bytes([data[place] ^ (1 << place % 8)]) + data[place + 1 :]
        with pytest.raises(MedmailError) as caught:
            read_backup(flipped, PLACE, lambda: b"secret")
        assert caught.value.code in ("backup-damaged", "malformed")
        assert caught.value.code == "backup-damaged" or place == 0


@given(garbage=st.binary(max_size=300))
def test_garbage_is_no_backup(garbage: bytes) -> None:
    with pytest.raises(MedmailError) as caught:
        read_backup(garbage, PLACE, lambda: b"secret")
    assert caught.value.code in ("backup-damaged", "malformed")


def test_a_keystore_that_does_not_open_is_not_saved(tmp_path: Path) -> None:
    store = make(tmp_path, 1)
    (one,) = store.identities()
    path = tmp_path / one.id / "identity.json"
    from medmail_cli.store import seal

    values = seal.read_document(path.read_bytes())
    path.write_bytes(seal.document(values | {"name": "Somebody Else"}))
    with pytest.raises(MedmailError) as caught:
        write_backup(store, b"secret", None, NOW, CHEAP)
    assert (caught.value.code, caught.value.facts["path"]) == ("store-damaged", str(path))


def test_nothing_is_restored_over_a_keystore(tmp_path: Path) -> None:
    store = make(tmp_path, 1)
    saved = read_backup(write_backup(store, b"s", None, NOW, CHEAP), PLACE, lambda: b"s")
    with pytest.raises(MedmailError) as caught:
        restore_backup(store.keystore, saved, b"new")
    assert caught.value.code == "keystore-exists"
    Keystore(tmp_path).unlock(b"old")
