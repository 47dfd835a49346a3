"""What ``medmail decrypt`` releases, row by row, and which message an argument means."""

import hashlib
from pathlib import Path

import pytest

from medmail_cli.store.mail.mailbox import Mailbox
from tests.support.cli import medmail
from tests.support.homes import make_home
from tests.support.letters import NOW, OUTER, TEXT, encrypt, letter, person, sealed, sign

TAMPERED = sign(TEXT, detached=True).replace(b"Hello", b"Hallo")
DAMAGED = encrypt(sign(TEXT))
LETTERS = {
    "trusted": sealed(letter(body="Hello\n")),
    "trusted-cbc": sealed(letter(body="Hello\n"), cipher="aes-256-cbc"),
    "unsigned": OUTER + TEXT,
    "untrusted": sealed(letter(body="Hello\n"), signer="carol"),
    "unsigned-gcm": OUTER + encrypt(TEXT),
    "unsigned-cbc": OUTER + encrypt(TEXT, cipher="aes-256-cbc"),
    "untrusted-cbc": sealed(letter(body="Hello\n"), signer="carol", cipher="aes-256-cbc"),
    "bad-signature": OUTER + encrypt(TAMPERED),
    "bad-signature-cbc": OUTER + encrypt(TAMPERED, cipher="aes-256-cbc"),
    "no-key": OUTER + encrypt(TEXT, "carol"),
    "bad-tag": OUTER + DAMAGED[:-60] + b"AAAA" + DAMAGED[-56:],
    "malformed": b"\0",
}
ACCEPT, SHOW = "--accept-untrusted", "--show-unverified"
BOTH = {"", ACCEPT, SHOW, f"{ACCEPT} {SHOW}"}
# name: exit, under which flags text is shown, under which it is written
RELEASED: dict[str, tuple[int, set[str], set[str]]] = {
    "trusted": (0, BOTH, BOTH),
    "trusted-cbc": (0, BOTH, BOTH),
    "unsigned": (5, BOTH, {ACCEPT, f"{ACCEPT} {SHOW}"}),
    "untrusted": (5, BOTH, {ACCEPT, f"{ACCEPT} {SHOW}"}),
    "unsigned-gcm": (5, BOTH, {ACCEPT, f"{ACCEPT} {SHOW}"}),
    "unsigned-cbc": (5, {SHOW, f"{ACCEPT} {SHOW}"}, {f"{ACCEPT} {SHOW}"}),
    "untrusted-cbc": (5, {SHOW, f"{ACCEPT} {SHOW}"}, {f"{ACCEPT} {SHOW}"}),
    "bad-signature": (6, {SHOW, f"{ACCEPT} {SHOW}"}, {SHOW, f"{ACCEPT} {SHOW}"}),
    "bad-signature-cbc": (6, {SHOW, f"{ACCEPT} {SHOW}"}, {SHOW, f"{ACCEPT} {SHOW}"}),
    "no-key": (1, set(), set()),
    "bad-tag": (6, set(), set()),
    "malformed": (1, set(), set()),
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_home(tmp_path_factory.mktemp("bob"), person("bob"))


@pytest.mark.parametrize("flags", sorted(BOTH))
def test_what_is_released(home: Path, tmp_path: Path, flags: str) -> None:
    """All in one run; then each of those by itself, to a file and to stdout."""
    for name, raw in LETTERS.items():
        (tmp_path / f"{name}.eml").write_bytes(raw)
    files = [tmp_path / f"{name}.eml" for name in LETTERS]
    out = tmp_path / "out"
    done = medmail(home, "decrypt", *files, *flags.split(), "--out-dir", out, "--json")
    assert done.exit == 3
    found = {Path(line["source"]).stem: line for line in done.objects if line["type"] == "message"}
    for name, (code, shown, written) in RELEASED.items():
        one = found[name]
        assert (name, one["exit"], one["trusted"]) == (name, code, code == 0)
        assert (name, one["text"] is not None) == (name, flags in shown)
        assert (name, (out / one["id"] / "message.txt").exists()) == (name, flags in written)
        assert one["problems"] or one["trusted"]
        assert code in (0, 5) or flags in shown or one["attachments"] == []


@pytest.mark.parametrize("name", ["untrusted", "unsigned-cbc", "bad-signature", "bad-tag"])
def test_stdout_and_files_alike(home: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "letter.eml").write_bytes(LETTERS[name])
    code, _, written = RELEASED[name]
    for flags in ("", f"{ACCEPT} {SHOW}"):
        argv: list[str | Path] = ["decrypt", tmp_path / "letter.eml", *flags.split()]
        done = medmail(home, *argv, "-o", "-")
        assert (done.exit, "Hello" in done.stdout or "Hallo" in done.stdout) == (code, flags in written)
        assert bool(done.stdout) == (flags in written)
        assert medmail(home, *argv, "-o", tmp_path / f"out{flags}").exit == code
        assert (tmp_path / f"out{flags}").exists() == (flags in written)


@pytest.mark.parametrize(
    ("at", "code"),
    [
        ("2026-11-23", 0),
        ("2026-11-22T23:30", 0),
        ("2026-11-22T23:30:01.5+01:00", 0),
        ("2026-11-22T09:30:00Z", 0),
        ("20261123T000000Z", 0),
        ("2046-06-01", 5),
        ("2025-06-01T00:00Z", 5),
        ("now", 2),
        ("2026-13-01", 2),
        ("1732262400", 2),
        ("", 2),
        ("2026-11-22 oops", 2),
    ],
)
def test_the_time_of_judgement(home: Path, tmp_path: Path, at: str, code: int) -> None:
    (tmp_path / "letter.eml").write_bytes(LETTERS["trusted"])
    assert medmail(home, "decrypt", tmp_path / "letter.eml", "--at", at, "--json").exit == code


def test_without_an_offset_a_time_is_local(home: Path, tmp_path: Path) -> None:
    """The certificate began on 2026-01-01 at midnight, UTC."""
    path = tmp_path / "letter.eml"
    path.write_bytes(sealed(letter()))
    problems = {}
    for zone in ("UTC", "Pacific/Kiritimati"):
        done = medmail(home, "decrypt", path, "--at", "2026-01-01T06:00", "--json", env={"TZ": zone})
        problems[zone] = {problem["code"] for problem in done.objects[0]["problems"]}
    assert problems["Pacific/Kiritimati"] - problems["UTC"] == {"not-yet-valid"}


# --- which message ------------------------------------------------------------------------------------------


def alike() -> list[bytes]:
    """Two messages whose ids begin with the same six digits, and one that begins otherwise."""
    seen: dict[str, bytes] = {}
    for number in range(1 << 20):
        raw = OUTER + b"Content-Type: text/plain\r\n\r\n%d\r\n" % number
        start = hashlib.sha256(raw).hexdigest()[:6]
        if start in seen:
            return [seen[start], raw, OUTER + TEXT]
        seen[start] = raw
    raise AssertionError


def test_ids_are_unique_prefixes(tmp_path: Path) -> None:
    own = make_home(tmp_path, person("bob"))
    first, second, other = alike()
    mailbox = Mailbox(own / "mail")
    mailbox.store("work", "INBOX", "1", [("1", first), ("2", second), ("3", other)], NOW)
    mailbox.close()
    name = hashlib.sha256(first).hexdigest()
    assert name != hashlib.sha256(second).hexdigest()
    done = medmail(own, "decrypt", name[:6], "--json")
    assert (done.exit, done.objects[-1]["code"]) == (2, "ambiguous")
    for prefix in (name[:16], name.upper(), hashlib.sha256(other).hexdigest()[:6]):
        done = medmail(own, "decrypt", prefix, "--json")
        assert (done.exit, done.objects[0]["id"].startswith(prefix.lower())) == (5, True)
    for odd, code in (
        ("abc", 2),
        ("zzzzzz", 2),
        (name + "0", 2),
        ("", 2),
        (f"{int(name[:8], 16) ^ 1:08x}", 1),
    ):
        assert medmail(own, "decrypt", odd, "--json").exit == code
    # what is named twice is opened once; files keep their place
    done = medmail(own, "decrypt", name, name, "--json")
    assert done.objects[-1]["counts"] == {"message": 1}
