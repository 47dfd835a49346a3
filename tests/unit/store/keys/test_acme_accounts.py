"""Keys of accounts at authorities: one for each, the same again, sealed, and told from damage."""

from pathlib import Path

import pytest

from medmail_cli.errors import MedmailError
from medmail_cli.pki.issuance import jose
from medmail_cli.store.keys.acme_accounts import account_key
from medmail_cli.store.keys.keystore import Keystore
from medmail_cli.store.keys.unlocked import Unlocked, create_keystore, unlock
from tests.support.homes import CHEAP
from tests.support.letters import NOW

URL = "https://ca.test/directory"


@pytest.fixture
def store(tmp_path: Path) -> Unlocked:
    return create_keystore(Keystore(tmp_path / "keystore", CHEAP), b"a", NOW)


def file_of(store: Unlocked) -> Path:
    (path,) = store.keystore.folder.glob("account-*.json")
    return path


def test_one_key_for_each_authority_whatever_the_passphrase(store: Unlocked) -> None:
    made = jose.jwk(account_key(store, URL))
    store.change_passphrase(b"b")
    again = unlock(Keystore(store.keystore.folder, CHEAP), b"b")
    assert jose.jwk(account_key(again, URL)) == made
    assert store.keystore.identities() == ()
    assert file_of(store).stat().st_mode & 0o077 == 0
    assert jose.jwk(account_key(store, URL + "2")) != made


def test_a_key_under_another_url_or_of_another_keystore_is_damage(store: Unlocked, tmp_path: Path) -> None:
    account_key(store, URL)
    kept = file_of(store).read_bytes()
    account_key(store, URL + "2")
    for path in store.keystore.folder.glob("account-*.json"):
        path.write_bytes(kept)
    assert account_key(store, URL)
    other = create_keystore(Keystore(tmp_path / "other", CHEAP), b"a", NOW)
    account_key(other, URL)
    file_of(other).write_bytes(kept)
    for damaged, url in ((store, URL + "2"), (other, URL)):
        with pytest.raises(MedmailError) as caught:
            account_key(damaged, url)
        assert caught.value.code == "store-damaged"


def test_a_flipped_byte_anywhere_is_damage(store: Unlocked) -> None:
    account_key(store, URL)
    path = file_of(store)
    kept = path.read_bytes()
    for at in range(0, len(kept), 7):
        path.write_bytes(kept[:at] + bytes([kept[at] ^ 1]) + kept[at + 1 :])
        with pytest.raises(MedmailError) as caught:
            account_key(store, URL)
        assert caught.value.code == "store-damaged", at
