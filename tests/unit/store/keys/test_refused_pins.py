"""Refused PINs: remembered for their token, forgotten with it, readable by nobody."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medmail_cli.store.keys.refused_pins import RefusedPins

KEY = bytes(range(32))


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.binary(min_size=1, max_size=8)), max_size=6),
    st.sampled_from("ab"),
)
def test_a_pin_is_known_until_its_token_takes_another(
    tmp_path_factory: pytest.TempPathFactory, refused: list[tuple[str, bytes]], taken: str
) -> None:
    pins = RefusedPins(tmp_path_factory.mktemp("pins"), KEY)
    for token, pin in refused:
        pins.remember(token, pin)
    for token in "ab":
        for pin in {pin for _, pin in refused} | {b"0000"}:
            assert pins.knows(token, pin) is ((token, pin) in refused)
    pins.forget(taken)
    for token, pin in refused:
        assert RefusedPins(pins.path.parent, KEY).knows(token, pin) is (token != taken)


def test_what_is_kept_says_nothing_without_the_keystores_key(tmp_path: Path) -> None:
    pins = RefusedPins(tmp_path, KEY)
    pins.remember("CPS", b"1234")
    first = pins.path.read_bytes()
    assert b"1234" not in first
    assert b"CPS" not in first
    assert pins.path.stat().st_mode & 0o777 == 0o600
    assert not RefusedPins(tmp_path, bytes(32)).knows("CPS", b"1234")


def test_a_damaged_file_keeps_nobody_out(tmp_path: Path) -> None:
    pins = RefusedPins(tmp_path, KEY)
    pins.path.write_bytes(b"\xff\n")
    assert not pins.knows("CPS", b"1234")
    pins.remember("CPS", b"1234")
    assert pins.knows("CPS", b"1234")
