"""Seeds of ML-KEM and ML-DSA against the published answers, as cryptography-vectors carries them."""

import re
from pathlib import Path

import cryptography_vectors
import pytest

from medmail_cli.pki.x509.seeds import KINDS, from_seed

FILES = {
    "ml-kem-768": "MLKEM/kat_MLKEM_768",
    "ml-kem-1024": "MLKEM/kat_MLKEM_1024",
    "ml-dsa-44": "MLDSA/kat_MLDSA_44_det_pure",
    "ml-dsa-65": "MLDSA/kat_MLDSA_65_det_pure",
    "ml-dsa-87": "MLDSA/kat_MLDSA_87_det_pure",
}


def answers(name: str, most: int = 5) -> list[tuple[bytes, bytes, bytes]]:
    """Seed, public key and expanded key of the first answers."""
    text = (Path(cryptography_vectors.__file__).parent / "asymmetric" / f"{FILES[name]}.rsp").read_text()
    found = []
    for block in text.split("count = ")[1 : most + 1]:
        values = {key: bytes.fromhex(value) for key, value in re.findall(r"(\w+) = ([0-9a-f]{64,})\n", block)}
        seed = values["d"] + values["z"] if "kem" in name else values["xi"]
        found.append((seed, values["pk"], values["sk"]))
    assert len(found) == most
    return found


@pytest.mark.parametrize("name", KINDS)
def test_seeds_expand_as_published(name: str) -> None:
    for seed, public, expanded in answers(name):
        assert len(expanded) == KINDS[name].expanded_size
        assert KINDS[name].expand(seed, public) == expanded
        key = from_seed(name, seed, expanded)
        assert key.public_key().public_bytes_raw() == public


@pytest.mark.parametrize("name", KINDS)
def test_an_expanded_key_that_is_anothers_is_seen_wherever_it_differs(name: str) -> None:
    (seed, _, expanded), (_, _, other) = answers(name, 2)
    places = range(0, len(expanded), len(expanded) // 13)
    for wrong in (other, *(expanded[:at] + bytes([expanded[at] ^ 1]) + expanded[at + 1 :] for at in places)):
        with pytest.raises(ValueError, match="expanded-key"):
            from_seed(name, seed, wrong)
    with pytest.raises(ValueError, match="seed"):
        from_seed(name, seed[:-1], None)
