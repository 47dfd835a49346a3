"""Every exit, once as text and once as JSON, and how a run is interrupted."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from medmail_cli.codes import EXITS
from tests.support.cli import MEDMAIL, Done, check_json, medmail
from tests.support.homes import make_home
from tests.support.letters import OUTER, TEXT, encrypt, letter, person, sealed, sign

CONFIG = """\
[accounts.work]
address = "bob@medecin.test"
smtp = { host = "127.0.0.1", port = 9, security = "tls" }
imap = { host = "127.0.0.1", port = 9, security = "tls" }
password-file = "password"
"""
DOCUMENTED = {0, 1, 2, 3, 4, 5, 6, 7, 75, 78, 130}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with Bob's home and a letter for each ending."""
    folder = tmp_path_factory.mktemp("bob")
    home = make_home(folder, person("bob"))
    (home / "config.toml").write_text(CONFIG)
    (home / "password").write_text("x\n")
    letters = {
        "good": sealed(),
        "plain": OUTER + TEXT,
        "forged": sealed(letter(), signer="carol"),
        "nokey": OUTER + encrypt(TEXT, "carol"),
        "badsig": OUTER + encrypt(sign(TEXT, detached=True).replace(b"Hello", b"Hallo")),
    }
    for name, raw in letters.items():
        (folder / f"{name}.eml").write_bytes(raw)
    (folder / "wrong").write_text("wrong\n")
    return folder


@pytest.fixture
def place(prepared: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of it, to be spoilt, as the working folder."""
    copy = tmp_path / "place"
    shutil.copytree(prepared, copy)
    before = Path.cwd()
    os.chdir(copy)
    yield copy
    os.chdir(before)


def spoil_nothing(_home: Path) -> None:
    pass


def spoil_keystore(home: Path) -> None:
    (path,) = (home / "keystore").glob("*/identity.json")
    path.write_bytes(path.read_bytes().replace(b"bob", b"bub", 1))


def spoil_config(home: Path) -> None:
    with (home / "config.toml").open("a") as config:
        config.write('pasword-file = "x"\n')


Case = tuple[int, str, list[str], Callable[[Path], None]]
CASES: list[Case] = [
    (0, "", ["decrypt", "good.eml"], spoil_nothing),
    (1, "", ["decrypt", "nokey.eml"], spoil_nothing),
    (1, "not-readable", ["decrypt", "nothing.eml"], spoil_nothing),
    (2, "usage", ["decrypt"], spoil_nothing),
    (2, "usage", ["keys", "export", "bob@medecin.test", "--format", "jpeg"], spoil_nothing),
    (3, "", ["decrypt", "good.eml", "plain.eml"], spoil_nothing),
    (4, "wrong-passphrase", ["decrypt", "good.eml", "--passphrase-file", "wrong"], spoil_nothing),
    (4, "secret-unreadable", ["decrypt", "good.eml", "--passphrase-file", "nowhere"], spoil_nothing),
    (5, "", ["decrypt", "plain.eml"], spoil_nothing),
    (5, "", ["decrypt", "plain.eml", "forged.eml"], spoil_nothing),
    (5, "no-recipient-certificate", ["send", "--to", "zoe@medecin.test", "plain.eml"], spoil_nothing),
    (6, "", ["decrypt", "badsig.eml"], spoil_nothing),
    (7, "store-damaged", ["keys", "list"], spoil_keystore),
    (75, "server-unreachable", ["fetch"], spoil_nothing),
    (75, "letter-queued", ["send", "--to", "bob@medecin.test", "plain.eml"], spoil_nothing),
    (78, "bad-config", ["fetch"], spoil_config),
    (78, "bad-config", ["keys", "list"], spoil_config),
    (78, "no-account", ["fetch", "--account", "nobody"], spoil_nothing),
]


@pytest.mark.parametrize(
    ("code", "said", "argv", "spoil"), CASES, ids=[f"{case[0]}-{case[1] or case[2][-1]}" for case in CASES]
)
def test_each_exit(place: Path, code: int, said: str, argv: list[str], spoil: Callable[[Path], None]) -> None:
    home = place / "home"
    spoil(home)
    plain = medmail(home, *argv)
    told = medmail(home, *argv, "--json")
    french = medmail(home, *argv, "--json", "--lang", "fr")
    assert (plain.exit, told.exit, french.exit) == (code, code, code)
    last = told.objects[-1]
    assert last["exit"] == code
    if said:
        assert (last if last["type"] == "error" else last["error"])["code"] == said
        assert "medmail: error: " in plain.stderr
        assert plain.stdout == "" or last["type"] == "result" or said == "no-recipient-certificate"
    else:
        assert (last["type"], last["ok"], plain.stderr) == ("result", code == 0, "")
    # codes, keys and everything else a script reads is the same in any language
    assert [without_words(line) for line in french.objects] == [without_words(line) for line in told.objects]


def without_words(line: object) -> object:
    """A line without what people read, and what no two runs share."""
    if isinstance(line, dict):
        own = ("message", "hint", "detail", "id", "message_id", "retry_at")
        return {key: key if key in own else without_words(value) for key, value in line.items()}
    return [without_words(one) for one in line] if isinstance(line, list) else line


def test_the_table_holds_documented_exits_only(tmp_path: Path) -> None:
    assert set(EXITS.values()) == DOCUMENTED - {0, 3}
    listed = medmail(tmp_path, "schema", "--errors", "--json").objects
    assert {line["code"]: line["leads_to"] for line in listed if line["type"] == "code"} == EXITS


def test_damage_and_configuration_name_their_place(place: Path) -> None:
    spoil_keystore(place / "home")
    assert "identity.json is damaged" in medmail(place / "home", "keys", "list").stderr
    spoil_config(place / "home")
    said = medmail(place / "home", "keys", "list").stderr
    line = len((place / "home" / "config.toml").read_text().splitlines())
    assert (
        f"config.toml, line {line}: unknown key accounts.work.pasword-file (nearest: password-file)" in said
    )
    for argv in (["config", "path"], ["schema", "--errors"], ["--help"], ["keys", "--help"]):
        assert medmail(place / "home", *argv).exit == 0


def test_a_prompt_nobody_can_answer(place: Path) -> None:
    home = place / "home"
    for extra in ((), ("--no-input",)):
        done = medmail(home, "decrypt", "good.eml", "--json", *extra, env={"MEDMAIL_PASSPHRASE_FILE": ""})
        assert (done.exit, done.objects[-1]["code"]) == (4, "no-secret")
        done = medmail(home, "keys", "delete", "bob@medecin.test", "--json", *extra)
        assert (done.exit, done.objects[-1]["code"]) == (2, "needs-confirmation")
        assert "--force" in done.objects[-1]["hint"]
    assert medmail(home, "keys", "list").stdout


# --- interrupted --------------------------------------------------------------------------------------------


def interrupted(home: Path, with_signal: int, *argv: str) -> Done:
    """Run until the command reads the pipe ``wait.eml``, then send the signal."""
    os.mkfifo(home.parent / "wait.eml")
    env = {"MEDMAIL_HOME": str(home), "MEDMAIL_PASSPHRASE_FILE": f"{home}.passphrase", "LC_ALL": "C.UTF-8"}
    run = subprocess.Popen(
        [MEDMAIL, *argv],
        cwd=home.parent,
        env=os.environ | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    descriptor = os.open(home.parent / "wait.eml", os.O_WRONLY)  # until the other side has opened it
    run.send_signal(with_signal)
    out, err = run.communicate(timeout=60)
    os.close(descriptor)
    done = Done(run.returncode, out.decode(), err.decode())
    assert "Traceback" not in done.stderr
    if "--json" in argv:
        check_json(done, argv)
    return done


@pytest.mark.parametrize("with_signal", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_before_anything(place: Path, with_signal: int) -> None:
    done = interrupted(place / "home", with_signal, "trust", "add", "./wait.eml", "--json")
    assert (done.exit, [line["code"] for line in done.objects]) == (130, ["interrupted"])
    assert "medmail: error: interrupted" in done.stderr


def test_interrupted_on_the_way(place: Path) -> None:
    """What was done stays done, is told, and the log knows."""
    home = place / "home"
    argv = ["decrypt", *["good.eml", "./wait.eml"], "--out-dir", "out", "--json"]
    done = interrupted(home, signal.SIGTERM, *argv)
    assert done.exit == 130
    assert done.objects[-1]["exit"] == 130
    assert [path for path in (place / "out").rglob("*") if path.suffix == ".tmp"] == []
    assert medmail(home, "audit", "verify").exit == 0
    assert medmail(home, "decrypt", "good.eml", "--out-dir", "out").exit == 0


# --- configuration ------------------------------------------------------------------------------------------

SERVER = 'imap = { host = "127.0.0.1", port = 9, security = "tls" }\n'


@pytest.mark.parametrize(
    ("config", "line"),
    [
        ('lang = "en"\nprofile = "mssant"\n', 2),
        ('profile = "./mine.toml"\n', 1),
        ('[accounts.w]\naddress = "a@b.c"\nproxy = "ftp://x"\n', 3),
        ('[accounts.w]\naddress = "@"\n', 2),
        ('[accounts.w]\naddress = "a@b.c"\npassword-command = ""\n', 3),
        ('[accounts.w]\naddress = "a@b.c"\nimap = { host = "x", port = 143, security = "none" }\n', 3),
        (f'[accounts.w]\naddress = "a@b.c"\nclient-identity = "none.pem"\n{SERVER}', 3),
        (f'[accounts.w]\naddress = "a@b.c"\n{SERVER}tls-anchors = "none.pem"\nauth = "external"\n', 4),
        ("lang = \n", 1),
        ("\n\nlang = 'fr\xe9\n", 3),
    ],
)
def test_bad_values_come_with_their_line(tmp_path: Path, config: str, line: int) -> None:
    (tmp_path / "config.toml").write_bytes(config.encode("latin-1"))
    done = medmail(tmp_path, "fetch", "--json", env={"MEDMAIL_PASSWORD_FILE": "/dev/null"})
    assert (done.exit, done.objects[-1]["code"]) == (78, "bad-config")
    assert f"config.toml, line {line}: " in done.stderr
