"""The whole keystore in one file, and back."""

import datetime as dt
import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medmail_cli.audit.belief import Belief
from medmail_cli.errors import MedmailError
from medmail_cli.model import CardPlace
from medmail_cli.store.keys import seal
from medmail_cli.store.keys.backup import read_backup, restore_backup, write_backup
from medmail_cli.store.keys.keystore import Keystore
from medmail_cli.store.keys.seal import Cost
from medmail_cli.store.keys.unlocked import Unlocked, create_keystore, unlock
from medmail_cli.store.log.writer import AuditLog
from medmail_cli.store.trust.believed import SEAL, SEAL_LABEL, Believed
from tests.support import pki

CHEAP = Cost(memory=64, passes=1, lanes=1)
NOW = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)
CA = pki.make_ca()
PAIRS = [pki.issue(CA, f"p{i}@x.test", "both", "p256") for i in range(3)]
PLACE = Path("keystore.medmail")


def make(folder: Path, count: int) -> Unlocked:
    store = create_keystore(Keystore(folder, CHEAP), b"old", NOW)
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
    unlock(Keystore(folder / "b"), b"new")
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
    from medmail_cli.store.keys import seal

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
    unlock(Keystore(tmp_path), b"old")


def hostile(tmp_path: Path, **changed: object) -> bytes:
    """A backup made by somebody who knows its passphrase, with other content."""
    data = write_backup(make(tmp_path / "a", 1), b"secret", None, NOW, CHEAP)
    values = seal.read_document(data)
    outside = {name: values[name] for name in ("medmail-backup", "created")}
    plain = seal.unwrap(b"secret", values, seal.canonical(outside))
    assert plain is not None
    content = json.dumps(json.loads(plain) | changed).encode()
    return seal.document(outside | seal.wrap(b"secret", content, seal.canonical(outside), CHEAP))


EMPTY = seal.encode(b"x")
FILES = {"identity.json": EMPTY, "chain.pem": EMPTY}


@pytest.mark.parametrize(
    "changed",
    [
        {"identities": {"../../elsewhere": FILES}},
        {"identities": {"/tmp/elsewhere": FILES}},
        {"identities": {"0" * 31 + "\n": FILES}},
        {"identities": {"a" * 32: {**FILES, "../../../elsewhere": EMPTY}}},
        {"identities": {"a" * 32: {"identity.json": EMPTY, "module.so": EMPTY}}},
        {"identities": {"a" * 32: {"chain.pem": EMPTY}}},
        {"identities": {f"{number:032x}": FILES for number in range(10_001)}},
        {"beside": {"../elsewhere": EMPTY}},
        {"beside": {"sitecustomize.py": EMPTY}},
        {"beside": {"keystore.json": EMPTY}},
        {"beside": {"revoked.json": seal.encode(b"x" * (1 << 20) + b"x")}},
        {"id": "../x"},
        {"master": seal.encode(b"x" * 31)},
        {"created": "2026-11-30T00:00:00"},
        {"beside": 1},
    ],
    ids=lambda changed: str(changed)[:50],
)
def test_a_hostile_backup_is_refused_before_anything_is_written(
    tmp_path: Path, changed: dict[str, object]
) -> None:
    data = hostile(tmp_path, **changed)
    with pytest.raises(MedmailError) as raised:
        read_backup(data, PLACE, lambda: b"secret")
    assert raised.value.code == "backup-damaged"


@pytest.mark.parametrize(
    "state",
    [
        b"\nanchor ../../x\n",
        b"\ndropped ../../../etc/passwd 5 " + b"ab" * 32 + b"\n",
        b"\ndropped abcd many " + b"ab" * 32 + b"\n",
        b"\ngone anchor " + b"ab" * 32 + b"\n",
    ],
)
def test_a_hostile_seal_over_trust_is_refused_before_anything_is_written(
    tmp_path: Path, state: bytes
) -> None:
    """Whoever made the backup has its keys: the seal opens, and says what no seal says."""
    store = make(tmp_path / "a", 1)
    believed = Believed(AuditLog(tmp_path / "audit", lambda: NOW), tmp_path / "cache")
    believed.seal(store.keystore.folder, store.subkey(SEAL_LABEL), Belief(base=b"\n"))
    assert read_backup(write_backup(store, b"p", None, NOW, CHEAP), PLACE, lambda: b"p").beside[SEAL]
    believed.seal(store.keystore.folder, store.subkey(SEAL_LABEL), Belief(base=state))
    with pytest.raises(MedmailError) as caught:
        read_backup(write_backup(store, b"p", None, NOW, CHEAP), PLACE, lambda: b"p")
    assert caught.value.code == "backup-damaged"


def test_the_seal_of_a_very_large_set_can_be_restored(tmp_path: Path) -> None:
    store = make(tmp_path / "a", 1)
    believed = Believed(AuditLog(tmp_path / "audit", lambda: NOW), tmp_path / "cache")
    lines = b"\n" + b"".join(b"contact %032x\n" % i for i in range(50_000))
    believed.seal(store.keystore.folder, store.subkey(SEAL_LABEL), Belief(base=lines))
    saved = read_backup(write_backup(store, b"p", None, NOW, CHEAP), PLACE, lambda: b"p")
    assert len(saved.beside[SEAL]) > len(lines)


def test_an_identity_under_another_name_is_not_restored(tmp_path: Path) -> None:
    data = write_backup(make(tmp_path / "a", 1), b"secret", None, NOW, CHEAP)
    saved = read_backup(data, PLACE, lambda: b"secret")
    (content,) = saved.identities.values()
    keystore = Keystore(tmp_path / "b", CHEAP)
    with pytest.raises(MedmailError) as raised:
        restore_backup(keystore, replace(saved, identities={"a" * 32: content}), b"new")
    assert raised.value.code == "store-damaged"
    assert not keystore.exists
    assert not (tmp_path / "b" / ("a" * 32)).exists()


def test_no_module_to_load_comes_from_a_backup(tmp_path: Path) -> None:
    store = create_keystore(Keystore(tmp_path / "a", CHEAP), b"old", NOW)
    place = CardPlace("/tmp/evil.so", "card", "0123", "01")
    store.add_card(place, PAIRS[0][0], addresses=["p@x.test"], purpose="both", now=NOW)
    saved = read_backup(write_backup(store, b"secret", None, NOW, CHEAP), PLACE, lambda: b"secret")
    restored = restore_backup(Keystore(tmp_path / "b", CHEAP), saved, b"new")
    (one,) = restored.identities()
    assert restored.card_place(one) == replace(place, module="")
    assert b"evil" not in b"".join(restored.opened_seal(each) for each in restored.identities())


@pytest.mark.parametrize(
    "kdf",
    [
        {"memory-kib": 1 << 31},
        {"memory-kib": 1 << 20, "passes": 5},
        {"memory-kib": 64, "passes": (1 << 31) - 1},
        {"lanes": 1 << 20},
        {"memory-kib": -1},
        {"memory-kib": 0},
        {"passes": True, "lanes": 0},
        {"salt": ""},
    ],
    ids=str,
)
def test_what_a_key_derivation_may_cost_is_bounded(tmp_path: Path, kdf: dict[str, object]) -> None:
    """Of a backup and of a keystore's header; nothing is derived, or this test would take minutes."""

    def dear(data: bytes) -> bytes:
        values = seal.read_document(data)
        values["kdf"] |= kdf
        return seal.document(values)

    store = make(tmp_path / "a", 0)
    data = dear(write_backup(store, b"secret", None, NOW, CHEAP))
    store.keystore.header.write_bytes(dear(store.keystore.header.read_bytes()))
    begun = time.process_time()
    with pytest.raises(MedmailError) as of_backup:
        read_backup(data, PLACE, lambda: b"secret")
    with pytest.raises(MedmailError) as of_header:
        unlock(store.keystore, b"old")
    assert time.process_time() - begun < 1
    assert (of_backup.value.code, of_header.value.code) == ("backup-damaged", "store-damaged")
