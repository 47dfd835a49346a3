"""Nothing tells an attacker why a letter did not open: text, JSON, exit, audit and work are the same.

Once an entry names our key, wrong padding, length, key, tag, structure or content all end alike
(Bleichenbacher's and Vaudenay's attacks; RFC 3218, RFC 8017 7.2; AEAD rewritten as CBC, RFC 9709).
"""

import json
import re
import statistics
import sys
import time
from pathlib import Path

import pytest

from medmail_cli.cms import ber, enveloped
from medmail_cli.errors import MedmailError
from medmail_cli.model import ContentCipher
from tests.support import pki
from tests.support.cli import medmail
from tests.support.damaged import ways_to_fail, who
from tests.support.homes import make_home
from tests.support.letters import OUTER, entity, opened

KINDS: tuple[pki.KeyType, ...] = ("rsa2048", "p256", "x25519", "ml-kem-768")
CIPHERS: tuple[ContentCipher, ...] = ("aes-256-gcm", "aes-256-cbc", "chacha20-poly1305")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cipher", CIPHERS)
def test_every_failure_has_one_verdict(kind: pki.KeyType, cipher: ContentCipher) -> None:
    bob = who(kind)
    seen = {}
    for way, data in ways_to_fail(kind, cipher).items():
        result = opened(OUTER + entity(data, "enveloped-data"), keys=[(bob.certificate, bob.key)])
        assert result.content is None
        seen[way] = result.verdict
    assert len(set(seen.values())) == 1, seen
    (verdict,) = set(seen.values())
    assert ([p.code for p in verdict.problems], verdict.problems[0].detail, verdict.exit) == (
        ["bad-tag"],
        "",
        6,
    )


def test_every_failure_says_and_logs_the_same(tmp_path: Path) -> None:
    home = make_home(tmp_path, who("rsa2048"), who("p256"))
    seen = set()
    kinds: tuple[pki.KeyType, ...] = ("rsa2048", "p256")
    for kind in kinds:
        for way, data in ways_to_fail(kind, "aes-256-gcm").items():
            path = tmp_path / f"{way}.eml"
            path.write_bytes(OUTER + entity(data, "enveloped-data"))
            done = medmail(home, "decrypt", path, "--json", "--show-unverified", "--accept-untrusted")
            told = medmail(home, "decrypt", path, "--explain")
            entry = medmail(home, "audit", "log", "--last", "1", "--json").objects[0]
            verdict = {**done.objects[0], "id": "", "source": ""}
            facts = {key: entry[key] for key in ("kind", "action", "outcome", "facts")}
            # the marks round a letter are random, whatever it is
            shown = re.sub(r"(?m)^\+-- [0-9a-f]{8}$", "", told.stdout)
            seen.add(json.dumps([verdict, done.stderr, done.exit, shown, told.exit, facts], sort_keys=True))
    assert len(seen) == 1, seen


@pytest.mark.soak
@pytest.mark.parametrize("kind", KINDS)
def test_every_failure_takes_the_same_time(kind: pki.KeyType) -> None:
    """Medians of many, interleaved; the spread of the same input measured twice says what is noise."""
    bob = who(kind)
    keys = [(bob.certificate, bob.key)]
    ways = ways_to_fail(kind, "aes-256-gcm")
    # what these differ in can be seen from outside: their length
    for way in ("not a letter", "AEAD as CBC", "no content", "wrapped key cut", "vector cut"):
        del ways[way]
    samples = {**ways, "tag again": ways["tag"]}
    times: dict[str, list[int]] = {way: [] for way in samples}
    for _ in range(3000):
        for way, data in samples.items():
            envelope = enveloped.parse_enveloped(ber.parse(data))
            begun = time.perf_counter_ns()
            with pytest.raises(MedmailError):
                enveloped.decrypt(envelope, keys)
            times[way].append(time.perf_counter_ns() - begun)
    medians = {way: statistics.median(taken) / 1000 for way, taken in times.items()}
    noise = abs(medians["tag"] - medians["tag again"])
    sys.stderr.write(f"{kind}: " + ", ".join(f"{way} {m:.1f} µs" for way, m in medians.items()) + "\n")
    spread = max(medians.values()) - min(medians.values())
    assert spread < max(10 * noise, 0.1 * medians["tag"] + 20), medians
