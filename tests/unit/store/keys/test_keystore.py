"""The keystore: what it keeps, what opens it, and what it notices."""

import datetime as dt
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given, settings
from hypothesis import strategies as st

from medmail_cli.cms.keys import SoftwareKey
from medmail_cli.errors import MedmailError
from medmail_cli.model import CardPlace
from medmail_cli.pki.x509.address import addresses
from medmail_cli.pki.x509.usage import Purpose
from medmail_cli.store.keys import seal
from medmail_cli.store.keys.identity import Identity
from medmail_cli.store.keys.keystore import Keystore
from medmail_cli.store.keys.seal import Cost
from medmail_cli.store.keys.unlocked import Unlocked, create_keystore, unlock, unlock_with
from tests.support import pki

pytestmark = pytest.mark.thorough

CHEAP = Cost(memory=64, passes=1, lanes=1)
NOW = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)
PASSPHRASE = "épouvantail".encode()
CA = pki.make_ca()


def new_store(folder: Path) -> Unlocked:
    return create_keystore(Keystore(folder, CHEAP), PASSPHRASE, NOW)


def keep(store: Unlocked, address: str, purpose: Purpose = "both", **more: Any) -> Identity:
    certificate, key = pki.issue(CA, address, purpose, "p256", **more.pop("certificate", {}))
    return store.add(
        key,
        certificate,
        CA.chain,
        addresses=addresses(certificate),
        purpose=purpose,
        method="import",
        now=more.pop("now", NOW),
        **more,
    )


def waiting(store: Unlocked, address: str, **more: Any) -> tuple[pki.Key, Identity]:
    key = pki.make_key("p256")
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, SHA256())
    der = request.public_bytes(serialization.Encoding.DER)
    return key, store.add_waiting(key, der, address=address, method="csr", now=NOW, **more)


def code_of(call: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(MedmailError) as caught:
        call()
    return caught.value.code, str(caught.value.facts.get("path", ""))


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# --- what it keeps -----------------------------------------------------------------------------------------


def test_an_identity_kept_is_read_back_while_locked_and_signs_once_unlocked(tmp_path: Path) -> None:
    kept = keep(new_store(tmp_path / "k"), "dr.martin@medecin.test")
    locked = Keystore(tmp_path / "k")
    (found,) = locked.identities()
    assert found == kept
    key = unlock(locked, PASSPHRASE).private_key(found)
    public = key.public_key
    assert isinstance(public, ec.EllipticCurvePublicKey)
    public.verify(key.sign(b"text", "ecdsa-sha256"), b"text", ec.ECDSA(SHA256()))
    assert found.certificate
    assert public == found.certificate.public_key()


def test_the_default_cost_is_rfc_9106s_second_recommendation(tmp_path: Path) -> None:
    create_keystore(Keystore(tmp_path), b"x", NOW)
    kdf = Keystore(tmp_path).read_header()["kdf"]
    assert {k: kdf[k] for k in ("name", "memory-kib", "passes", "lanes")} == {
        "name": "argon2id", "memory-kib": 65536, "passes": 3, "lanes": 4,
    }  # fmt: skip
    assert len(seal.decode(kdf["salt"])) == 16


def test_a_passphrase_typed_on_another_system_is_the_same(tmp_path: Path) -> None:
    import unicodedata

    new_store(tmp_path)
    unlock(Keystore(tmp_path), unicodedata.normalize("NFD", PASSPHRASE.decode()).encode())


def test_a_wrong_passphrase_is_told_from_damage(tmp_path: Path) -> None:
    new_store(tmp_path)
    assert code_of(lambda: unlock(Keystore(tmp_path), b"wrong"))[0] == "wrong-passphrase"
    assert code_of(lambda: unlock(Keystore(tmp_path / "none"), b"wrong"))[0] == "no-keystore"
    assert code_of(lambda: unlock_with(Keystore(tmp_path), bytes(32)))[0] == "keystore-locked"


def test_a_new_passphrase_opens_what_the_old_one_sealed(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    identity = keep(store, "a@x.test")
    subkey = store.subkey("index")
    store.change_passphrase(b"new")
    assert code_of(lambda: unlock(Keystore(tmp_path), PASSPHRASE))[0] == "wrong-passphrase"
    opened = unlock(Keystore(tmp_path), b"new")
    assert opened.unseal(identity)
    assert opened.subkey("index") == subkey != opened.subkey("other")


def test_the_same_key_pair_again_is_the_one_already_there(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    certificate, key = pki.issue(CA, "a@x.test", key_type="p256")
    first, again = (
        store.add(key, certificate, addresses=["a@x.test"], purpose="both", method="import", now=NOW)
        for _ in range(2)
    )
    assert again == first
    assert len(store.identities()) == 1


def test_a_key_that_is_not_the_certificates_is_refused(tmp_path: Path) -> None:
    certificate, _ = pki.issue(CA, "a@x.test", key_type="p256")
    with pytest.raises(ValueError, match="not the certificate's"):
        new_store(tmp_path).add(
            pki.make_key("p256"), certificate, addresses=[], purpose="both", method="import", now=NOW
        )
    assert Keystore(tmp_path).identities() == ()


def test_a_waiting_key_becomes_an_identity_when_its_certificate_comes(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    key, request = waiting(store, "a@x.test")
    assert [one.state for one in Keystore(tmp_path).identities()] == ["waiting"]
    assert code_of(lambda: store.signer("a@x.test"))[0] == "no-identity"
    certificate, _ = pki.issue(CA, "a@x.test", key=key)
    store.add(
        store.unseal(request), certificate, addresses=["a@x.test"], purpose="both", method="csr", now=NOW
    )
    (found,) = store.identities()
    assert (found.state, found.certificate) == ("active", certificate)
    assert not (tmp_path / request.id).exists()


def test_a_replaced_identity_signs_no_more_but_still_opens_old_mail(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    old = keep(store, "a@x.test")
    new = keep(store, "A@X.TEST", replaces=[old.id], now=NOW + dt.timedelta(days=1))
    assert [one.state for one in store.identities()] == ["retired", "active"]
    assert store.signer("a@x.test").id == new.id
    assert {c for c, _ in store.decryption_keys()} == {old.certificate, new.certificate}
    store.keystore.delete(new)
    assert store.signer("a@x.test").id == old.id


def test_the_signer_is_one_valid_at_the_time_and_meant_for_it(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    keep(store, "a@x.test", "encrypt")
    expired = keep(store, "a@x.test", "sign", certificate={"not_after": NOW - dt.timedelta(days=1)})
    valid = keep(store, "a@x.test", "sign")
    assert store.signer("a@x.test", at=NOW).id == valid.id
    store.keystore.delete(valid)
    assert store.signer("a@x.test", at=NOW).id == expired.id
    assert store.decryption_identity("a@x.test", at=NOW).purpose == "encrypt"
    assert code_of(lambda: store.signer("b@x.test"))[0] == "no-identity"


def test_keys_stay_sealed_until_used_and_show_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = new_store(tmp_path)
    identity = keep(store, "a@x.test")
    unsealed: list[str] = []
    monkeypatch.setattr(Unlocked, "unseal", lambda _self, one: unsealed.append(one.id))
    pairs = store.decryption_keys()
    assert (len(pairs), unsealed) == (1, [])
    secret = store.master_key().hex()
    for thing in (store, pairs[0][1], identity, store.keystore):
        assert secret not in repr(thing)
        assert identity.sealed_key["data"] not in repr(thing)


def test_an_identity_is_found_by_a_prefix_a_fingerprint_or_its_address(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    one, other = keep(store, "a@x.test"), keep(store, "b@x.test")
    locked = store.keystore
    assert locked.find(one.id[:12]) == locked.find("A@x.test") == locked.find(str(one.sha256).upper()) == one
    assert code_of(lambda: locked.find("ffffffffffff00"))[0] == "not-found"
    assert code_of(lambda: locked.find(""))[0] == "not-found"
    keep(store, "b@x.test")
    assert code_of(lambda: locked.find(other.addresses[0]))[0] == "ambiguous-identity"


# --- what it notices ---------------------------------------------------------------------------------------


def test_a_flip_of_any_byte_of_any_file_is_noticed_and_named(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    keep(store, "a@x.test")
    waiting(store, "b@x.test")
    files = tree(tmp_path)
    assert len([name for name, data in files.items() if data]) == 5
    for name, data in files.items():
        path = tmp_path / name
        for place in range(len(data)):
            bit = 1 << place % 8
            path.write_bytes(data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :])
            for call in (Keystore(tmp_path).identities, store.identities):
                assert code_of(call) == ("store-damaged", str(path)), (name, place)
            if name == "keystore.json":
                opening = lambda: unlock(Keystore(tmp_path), PASSPHRASE)  # noqa: E731
                assert code_of(opening) == ("store-damaged", str(path)), place
        path.write_bytes(data)


@pytest.mark.parametrize("cut", [0, 1, 40, -1])
def test_a_truncated_or_missing_file_is_noticed_and_named(tmp_path: Path, cut: int) -> None:
    keep(new_store(tmp_path), "a@x.test")
    for name, data in tree(tmp_path).items():
        if not data:
            continue
        path = tmp_path / name
        path.write_bytes(data[:cut])
        assert code_of(Keystore(tmp_path).identities) == ("store-damaged", str(path))
        path.unlink()
        assert code_of(Keystore(tmp_path).identities) == ("store-damaged", str(path))
        path.write_bytes(data)


def test_metadata_rewritten_with_a_right_checksum_does_not_open_the_key(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    identity = keep(store, "a@x.test")
    path = tmp_path / identity.id / "identity.json"
    values = seal.read_document(path.read_bytes())
    path.write_bytes(seal.document(values | {"addresses": ["minister@x.test"]}))
    forged = store.signer("minister@x.test")
    assert code_of(lambda: store.private_key(forged).sign(b"", "ecdsa-sha256")) == (
        "store-damaged",
        str(path),
    )


def test_a_kdf_that_would_eat_all_memory_is_damage(tmp_path: Path) -> None:
    new_store(tmp_path)
    path = tmp_path / "keystore.json"
    values = seal.read_document(path.read_bytes())
    values["kdf"]["memory-kib"] = 2**40
    path.write_bytes(seal.document(values))
    assert code_of(lambda: unlock(Keystore(tmp_path), PASSPHRASE)) == ("store-damaged", str(path))


def test_a_store_of_a_newer_format_is_left_alone(tmp_path: Path) -> None:
    new_store(tmp_path)
    path = tmp_path / "keystore.json"
    path.write_bytes(seal.document(seal.read_document(path.read_bytes()) | {"medmail-keystore": 2}))
    assert code_of(Keystore(tmp_path).identities)[0] == "newer-store"


# --- several at once ---------------------------------------------------------------------------------------


def _add_some(folder: Path, number: int) -> None:
    store = create_keystore(Keystore(folder, CHEAP), PASSPHRASE, NOW)
    for i in range(5):
        keep(store, f"p{number}-{i}@x.test")


def test_several_processes_at_once_lose_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_add_some, args=(tmp_path, i)) for i in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    store = unlock(Keystore(tmp_path), PASSPHRASE)
    assert len(store.identities()) == 15
    assert all(store.unseal(one) for one in store.identities())


# --- sealing -----------------------------------------------------------------------------------------------


@given(plain=st.binary(max_size=200), bound=st.binary(max_size=50), flip=st.integers(0, 255))
def test_what_is_sealed_comes_back_only_with_key_and_binding(plain: bytes, bound: bytes, flip: int) -> None:
    key = seal.new_key()
    sealed = seal.seal(key, plain, bound)
    assert seal.unseal(key, sealed, bound) == plain
    assert seal.unseal(key, sealed, bound + b"x") is None
    assert seal.unseal(seal.new_key(), sealed, bound) is None
    data = bytearray(seal.decode(sealed["data"]))
    data[flip % len(data)] ^= 1 + flip % 255
    assert seal.unseal(key, sealed | {"data": seal.encode(bytes(data))}, bound) is None


@settings(max_examples=30)
@given(passphrase=st.binary(min_size=1, max_size=40), secret=st.binary(max_size=64))
def test_what_is_wrapped_comes_back_only_with_the_passphrase(passphrase: bytes, secret: bytes) -> None:
    wrapped = seal.wrap(passphrase, secret, b"bound", CHEAP)
    assert seal.unwrap(passphrase, wrapped, b"bound") == secret
    assert seal.unwrap(passphrase + b"!", wrapped, b"bound") is None
    assert seal.unwrap(passphrase, wrapped, b"other") is None


@given(body=st.binary(max_size=300), garbage=st.binary(max_size=300))
def test_a_checked_body_comes_back_and_garbage_never_does(body: bytes, garbage: bytes) -> None:
    assert seal.unchecked(seal.checked(body)) == body
    with pytest.raises(ValueError):
        seal.unchecked(garbage)


def test_a_card_s_place_is_sealed_like_a_key_and_the_key_stays_where_it_is(tmp_path: Path) -> None:
    store = create_keystore(Keystore(tmp_path, CHEAP), b"p", NOW)
    certificate, key = pki.issue(pki.make_ca(), "a@x.test", key_type="p256")
    place = CardPlace("/usr/lib/é.so", "CPS", "0042", "01")
    kept = store.add_card(place, certificate, addresses=["a@x.test"], purpose="sign", now=NOW)
    again = unlock(Keystore(tmp_path), b"p")
    assert again.identities() == (kept,)
    assert again.card_place(kept) == place
    assert "CPS" not in (tmp_path / kept.id / "identity.json").read_text()
    with pytest.raises(MedmailError) as caught:
        again.unseal(kept)
    assert caught.value.code == "key-on-card"
    with pytest.raises(MedmailError) as caught:
        again.private_key(kept).sign(b"x", "ecdsa-sha256")
    assert caught.value.code == "card-absent"
    asked = []

    def open_card(found: CardPlace, _public: object) -> SoftwareKey:
        asked.append(found)
        return SoftwareKey(key)

    again.open_card = open_card
    assert again.private_key(kept).public_key == certificate.public_key()
    assert asked == []
    again.private_key(kept).sign(b"x", "ecdsa-sha256")
    assert asked == [place]
    assert again.decryption_keys() == []
