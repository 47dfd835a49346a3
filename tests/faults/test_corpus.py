"""What fuzzing found worth keeping, each input once: no other error, no second lost, nothing believed."""

import base64
from pathlib import Path

import pytest

from tests.faults.fuzz import BASE, FACTOR, TARGETS, checked, peak, seeds

CORPUS = Path(__file__).parent / "corpus"


def inputs(target: str) -> list[bytes]:
    path = CORPUS / f"{target}.b64"
    kept = path.read_bytes().splitlines() if path.exists() else []
    return [*seeds(target), *map(base64.b64decode, kept)]


@pytest.mark.parametrize("target", TARGETS)
def test_corpus(target: str) -> None:
    found = inputs(target)
    for data in found:
        checked(TARGETS[target], data)
    largest = max(found, key=len)
    assert peak(TARGETS[target], largest) <= FACTOR * len(largest) + BASE


def test_every_kept_input_belongs_to_a_target() -> None:
    assert {path.stem for path in CORPUS.glob("*.b64")} <= set(TARGETS)
