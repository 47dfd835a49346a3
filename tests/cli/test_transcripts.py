"""What people read, command by command, in both languages, beside what is committed in ``transcripts/``.

What differs from run to run (names of messages, dates, folders) is put aside. ``python -m
tests.cli.test_transcripts`` writes the transcripts anew.
"""

import re
import sys
import tempfile
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from medmail_cli.smime.protect import Style, protect
from tests.support.cli import medmail
from tests.support.homes import make_home
from tests.support.letters import NOW, authority, letter, person, sealed

HERE = Path(__file__).parent / "transcripts"

STEPS = """
config path
config init --address alice@medecin.test --server 127.0.0.1
config init --address bob@medecin.test
config show
enrol status
enrol status --fail-within 9999d
enrol import bob.pem
enrol new alice@medecin.test --method csr
keys list
keys show alice@medecin.test
keys show nobody@medecin.test
keys export alice@medecin.test -o alice.pem
keys export alice@medecin.test -o letter.eml
keys delete alice@medecin.test
trust list
trust add trust.pem
trust add letter.eml
trust remove abcdefabcdef
contacts list
contacts find bob@medecin.test
contacts add bob.pem
contacts list
contacts set bob@medecin.test --reads legacy
contacts accept bob@medecin.test
contacts remove carol@medecin.test
decrypt letter.eml
decrypt letter.eml --explain
decrypt tampered.eml
decrypt junk.eml
decrypt strange.eml
decrypt abcdef123456
decrypt
send --to bob@medecin.test --subject Radio body.txt --dry-run
send --to bob@medecin.test --subject Radio body.txt --output out.eml
send --to carol@medecin.test --subject Radio body.txt
send --to bob@medecin.test --subject Radio empty.txt
send --to bob@medecin.test --subject Radio latin1.txt
send --to bob@medecin.test --subject Radio --id one body.txt --queue
send --to bob@medecin.test --subject Radio --id one body.txt --queue
send --to bob@medecin.test --subject Other --id one body.txt --queue
outbox list
outbox drop abcdefabcdef
inbox
inbox --folder nowhere
reply abcdefabcdef body.txt
fetch
server check
audit log --last 2
audit verify
audit verify --checkpoint junk.eml
audit prove 999999
schema nothing
frobnicate
keys frobnicate
decrypt --frobnicate
--account nowhere fetch
--lang xx inbox
"""


def world(folder: Path) -> Path:
    """A home with Alice's key, and the files that the steps name."""
    alice, bob, mallory = person("alice"), person("bob"), person("mallory", "Other Root")
    home = make_home(folder, alice)
    (folder / "trust.pem").write_bytes(authority("Health Root").certificate.public_bytes(Encoding.PEM))
    for one in (alice, bob):
        (folder / f"{one.address.partition('@')[0]}.pem").write_bytes(
            one.certificate.public_bytes(Encoding.PEM)
        )
    (folder / "alice.pem").unlink()
    good = sealed(letter(from_=bob.box, to=(alice.box,)), signer="bob", to=("alice",))
    (folder / "letter.eml").write_bytes(good)
    middle = good.rindex(b"\r\n", 0, len(good) * 2 // 3) - 10
    changed = b"A" if good[middle : middle + 1] != b"A" else b"B"
    (folder / "tampered.eml").write_bytes(good[:middle] + changed + good[middle + 1 :])
    strange = letter(from_=mallory.box, to=(alice.box,))
    recipients = {alice.address: alice.certificate}
    (made,) = protect(strange, signer=mallory.signer, recipients=recipients, signed_at=NOW, style=Style())
    (folder / "strange.eml").write_bytes(made.message)
    (folder / "junk.eml").write_bytes(b"\x00\x01 this is no letter")
    (folder / "body.txt").write_text("Bonjour,\nvoici la radio.\n")
    (folder / "empty.txt").write_text("")
    (folder / "latin1.txt").write_bytes(b"\xe9t\xe9")
    (folder / "password").write_text("sentinel password\n")
    return home


def transcript(folder: Path, lang: str) -> str:
    """Every step with what it said and how it ended."""
    home = world(folder)
    shown = []
    for step in STEPS.strip().splitlines():
        words = [
            str(folder / word) if (folder / word).exists() or word.endswith((".pem", ".eml")) else word
            for word in step.split()
        ]
        done = medmail(
            home,
            *words,
            env={"MEDMAIL_LANG": lang, "COLUMNS": "80", "MEDMAIL_PASSWORD_FILE": str(folder / "password")},
        )
        said = done.stdout + "".join(f"! {line}\n" for line in done.stderr.splitlines())
        shown.append(f"$ medmail {step}\n{settled(said, folder)}= {done.exit}\n")
    return "\n".join(shown)


def settled(text: str, folder: Path) -> str:
    """The text without what differs from run to run."""
    text = text.replace(str(folder), "~")
    text = re.sub(r"-----BEGIN (.*?)-----.*?-----END \1-----", r"<\1>", text, flags=re.DOTALL)
    text = re.sub(
        r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z| ?[+-]\d\d:?\d\d)?)?", "<date>", text
    )
    text = re.sub(r"<[0-9a-f.]+@medecin\.test>", "<message-id>", text)
    text = re.sub(r"\b[0-9a-f]{8,64}\b", "<hex>", text)
    return re.sub(r"(?<=\t)\d{4,}(?=\t)", "<days>", text)


@pytest.mark.parametrize("lang", ["en", "fr"])
def test_people_read_what_is_committed(tmp_path: Path, lang: str) -> None:
    assert transcript(tmp_path, lang) == (HERE / f"{lang}.txt").read_text()


def test_codes_and_keys_are_the_same_in_both_languages(tmp_path: Path) -> None:
    home = world(tmp_path)
    for step in ("decrypt tampered.eml", "send --to carol@medecin.test body.txt", "keys list", "frobnicate"):
        words = [str(tmp_path / word) if (tmp_path / word).exists() else word for word in step.split()]
        english, french = (
            medmail(home, *words, "--json", env={"MEDMAIL_LANG": lang}) for lang in ("en", "fr")
        )
        assert english.exit == french.exit
        for one, other in zip(english.objects, french.objects, strict=True):
            assert {key: one[key] for key in one if key not in ("message", "hint")} == {
                key: other[key] for key in other if key not in ("message", "hint")
            }


if __name__ == "__main__":
    for language in ("en", "fr"):
        with tempfile.TemporaryDirectory() as name:
            HERE.mkdir(exist_ok=True)
            (HERE / f"{language}.txt").write_text(transcript(Path(name), language))
    sys.exit(0)
