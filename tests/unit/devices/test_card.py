"""When a PIN is not even tried, and what stands in for a missing library; real tokens: tests/servers."""

import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from hypothesis import given
from hypothesis import strategies as st
from pkcs11 import TokenFlag

from medmail_cli.devices import cardkey
from medmail_cli.devices.card import check_pin_flags
from medmail_cli.devices.cards import Cards
from medmail_cli.errors import MedmailError
from medmail_cli.store.keys.refused_pins import RefusedPins

READY = TokenFlag.LOGIN_REQUIRED | TokenFlag.USER_PIN_INITIALIZED


@pytest.mark.parametrize(
    ("flags", "code"),
    [
        (READY | TokenFlag.USER_PIN_LOCKED, "pin-locked"),
        (READY | TokenFlag.USER_PIN_LOCKED | TokenFlag.USER_PIN_FINAL_TRY, "pin-locked"),
        (READY | TokenFlag.USER_PIN_FINAL_TRY | TokenFlag.USER_PIN_COUNT_LOW, "pin-last-try"),
        (TokenFlag.LOGIN_REQUIRED, "pin-unset"),
    ],
)
def test_a_pin_that_cannot_help_or_could_lock_the_card_is_not_tried(flags: int, code: str) -> None:
    with pytest.raises(MedmailError) as caught:
        check_pin_flags(flags, "CPS")
    assert caught.value.code == code


def test_a_wrong_pin_of_yesterday_does_not_keep_todays_from_being_tried() -> None:
    check_pin_flags(READY, "CPS")
    check_pin_flags(READY | TokenFlag.USER_PIN_COUNT_LOW, "CPS")


def test_without_the_library_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pkcs11", None)
    cards = Cards(lambda _label: b"", lambda: RefusedPins(tmp_path, bytes(32)))
    with pytest.raises(MedmailError) as caught:
        cards.choose(tmp_path / "module.so", None)
    assert (caught.value.code, caught.value.facts["extra"]) == ("extra-missing", "card")
    cards.close()


@given(st.sampled_from([ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1(), ec.BrainpoolP256R1()]), st.binary())
def test_a_cards_ecdsa_signature_becomes_der(curve: ec.EllipticCurve, message: bytes) -> None:
    key = ec.generate_private_key(curve)
    numbers = decode_dss_signature(key.sign(message, ec.ECDSA(hashes.SHA256())))
    size = (curve.key_size + 7) // 8
    raw = b"".join(number.to_bytes(size, "big") for number in numbers)
    key.public_key().verify(cardkey.ecdsa_der(raw), message, ec.ECDSA(hashes.SHA256()))
