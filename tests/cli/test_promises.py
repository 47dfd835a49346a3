"""Promises that belong to no single command: help, places, secrets, strangers' strings."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from medmail_cli.app import command_tree
from medmail_cli.config import SECRETS
from medmail_cli.session import Options, Session
from medmail_cli.smime.compose import Attachment
from tests.support.cli import PASSPHRASE, medmail
from tests.support.homes import make_home
from tests.support.letters import OUTER, letter, person, sealed, sign

CONFIG = """\
[accounts.work]
address = "bob@medecin.test"
smtp = { host = "127.0.0.1", port = 9, security = "tls" }
imap = { host = "127.0.0.1", port = 9, security = "tls" }
"""
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200e\u200f\u2028\u2029]")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return make_home(tmp_path, person("bob"))


@pytest.fixture
def message(tmp_path: Path) -> Path:
    path = tmp_path / "letter.eml"
    path.write_bytes(sealed())
    return path


# --- help ---------------------------------------------------------------------------------------------------


def commands() -> Iterator[tuple[list[str], Any]]:
    """Every command that can be run, with its words."""

    def walk(command: Any, path: list[str]) -> Iterator[tuple[list[str], Any]]:
        children = getattr(command, "commands", {})
        if not children:
            yield path, command
        for name, child in children.items():
            yield from walk(child, [*path, name])

    yield from walk(command_tree(), [])


def start(argv: list[str]) -> None:
    """Read a command line down to its command, and run nothing."""
    command = command_tree(tuple(argv[:1]))
    words = list(argv)
    session = Session(Options())
    ctx = command.make_context("medmail", words, obj=session)
    while children := getattr(ctx.command, "commands", {}):
        rest = [*ctx._protected_args, *ctx.args]
        child = children[rest[0]]
        ctx = child.make_context(rest[0], rest[1:], parent=ctx)


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_every_command_helps(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    for path, _ in commands():
        with pytest.raises(typer.Exit):
            start([*path, flag])
        said = capsys.readouterr()
        assert f"medmail {' '.join(path)} " in said.out
        assert "--json" in said.out
        assert said.err == ""


# --- places -------------------------------------------------------------------------------------------------


def places(tmp_path: Path, *argv: str, **env: str) -> dict[str, str]:
    done = medmail(tmp_path, "config", "path", "--json", *argv, env={"MEDMAIL_HOME": ""} | env)
    return {line["name"]: line["path"] for line in done.objects[:-1]}


def test_where_things_are(tmp_path: Path) -> None:
    xdg = {f"XDG_{name}_HOME": f"/x/{name.lower()}" for name in ("CONFIG", "DATA", "CACHE")}
    found = places(tmp_path, **xdg)
    assert found["config"] == "/x/config/medmail/config.toml"
    assert found["cache"] == "/x/cache/medmail"
    for name in ("keystore", "trust", "contacts", "mail", "outbox", "audit"):
        assert found[name] == f"/x/data/medmail/{name}"
    assert places(tmp_path, MEDMAIL_HOME="/a", **xdg)["keystore"] == "/a/keystore"
    assert places(tmp_path, "--home", "/b", MEDMAIL_HOME="/a", **xdg)["config"] == "/b/config.toml"


def test_flags_come_before_the_environment_before_the_configuration(home: Path) -> None:
    (home / "config.toml").write_text('lang = "fr"\n' + CONFIG)
    assert "erreur" in medmail(home, "keys", "show", "x").stderr
    assert "error" in medmail(home, "keys", "show", "x", env={"MEDMAIL_LANG": "en"}).stderr
    env = {"MEDMAIL_LANG": "en"}
    assert "erreur" in medmail(home, "keys", "show", "x", "--lang", "fr", env=env).stderr
    assert medmail(home, "fetch", env={"MEDMAIL_ACCOUNT": "nobody"}).exit == 78
    assert medmail(home, "fetch", "--lang", "de").exit == 2


# --- secrets ------------------------------------------------------------------------------------------------

WAYS = ("file", "descriptor", "environment", "configured file", "configured command", "systemd credential")


def given(way: str, name: str, home: Path, value: str) -> tuple[list[str], dict[str, str], bytes]:
    """Options, environment and stdin that give a secret in one of the ways."""
    path = home.parent / "secret"
    path.write_text(value + "\n")
    config = home / "config.toml"
    if way == "file":
        return [f"--{name}-file", str(path)], {}, b""
    if way == "descriptor":
        return [f"--{name}-fd", "0"], {}, path.read_bytes()
    if way == "environment":
        return [], {f"MEDMAIL_{name.upper().replace('-', '_')}_FILE": str(path)}, b""
    if way == "systemd credential":
        path.rename(home.parent / f"medmail-{name}")
        return [], {"CREDENTIALS_DIRECTORY": str(home.parent)}, b""
    line = f'{name}-file = "../secret"\n' if way == "configured file" else f'{name}-command = "cat {path}"\n'
    config.write_text(CONFIG + line if name in ("password", "token") else line + CONFIG)
    return [], {}, b""


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["passphrase", "backup-passphrase", "password"])
def test_every_way_for_a_secret(home: Path, message: Path, name: str, way: str) -> None:
    """Without it exit 4; with it the run goes on (a password's, to a server that is not there)."""
    (home / "config.toml").write_text(CONFIG)
    argv, without, with_it = {
        "passphrase": (["decrypt", str(message)], 4, 0),
        "backup-passphrase": (["keys", "backup", "-o", str(home.parent / "backup")], 4, 0),
        "password": (["fetch"], 4, 75),
    }[name]
    none = {"MEDMAIL_PASSPHRASE_FILE": ""} if name == "passphrase" else {}
    done = medmail(home, *argv, "--json", env=none)
    assert (done.exit, done.objects[-1]["code"]) == (without, "no-secret")
    assert f"--{name}-file" in done.objects[-1]["hint"]
    flags, env, stdin = given(way, name, home, PASSPHRASE)
    done = medmail(home, *argv, *flags, "--debug", env=none | env, stdin=stdin)
    assert done.exit == with_it, done


def test_a_secret_is_never_an_argument_nor_a_variable(home: Path, message: Path) -> None:
    for name in SECRETS:
        assert medmail(home, f"--{name}=x", "decrypt", message).exit == 2
    env = {"MEDMAIL_PASSPHRASE_FILE": "", "MEDMAIL_PASSPHRASE": PASSPHRASE}
    assert medmail(home, "decrypt", message, env=env).exit == 4


def test_a_command_that_gives_no_secret(home: Path, message: Path) -> None:
    (home / "config.toml").write_text(f'passphrase-command = "echo {PASSPHRASE}; exit 3"\n')
    done = medmail(home, "decrypt", message, "--json", env={"MEDMAIL_PASSPHRASE_FILE": ""})
    assert done.exit == 4


# --- strings of strangers -----------------------------------------------------------------------------------

NAMES = (
    "../../evil", "/etc/passwd", "..", ".", "a\x00b.txt", "x" * 300, "é" * 300, "CON", "aux.txt", "nul.",
    "a:b", "c\\d\\e.txt", "-rf", "\u202egpj.exe", "\x1b[31mred", "new\nline.txt", ".hidden", "message.txt",
    "MESSAGE.TXT", "%2e%2e%2fx", "trail. ", "~root", "a" * 250 + ".tar.gz",
)  # fmt: skip


def test_names_of_strangers_stay_in_their_folder(home: Path, tmp_path: Path) -> None:
    attached = tuple(
        Attachment(name, "application/octet-stream", str(n).encode()) for n, name in enumerate(NAMES)
    )
    path = tmp_path / "hostile.eml"
    path.write_bytes(sealed(letter(attachments=attached)))
    done = medmail(home, "decrypt", path, "--out-dir", tmp_path / "out", "--json")
    assert done.exit == 0, done
    (found,) = done.objects[:-1]
    folder = tmp_path / "out" / found["id"]
    assert {one.name for one in tmp_path.iterdir()} == {"home", "home.passphrase", "hostile.eml", "out"}
    assert [one.name for one in (tmp_path / "out").iterdir()] == [found["id"]]
    for number, one in enumerate(found["attachments"]):
        saved = Path(one["saved_as"])
        assert saved.parent == folder
        assert saved.read_bytes() == str(number).encode()
        assert not CONTROLS.search(saved.name)
        assert not saved.name.startswith((".", "-"))
        assert saved.name.split(".")[0].upper() not in ("CON", "AUX", "NUL")
    assert len({Path(one["saved_as"]).name.casefold() for one in found["attachments"]}) == len(NAMES)
    assert (folder / "message.txt").read_text() == letter().body


HOSTILE = (
    b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n'
    b"Content-Type: text/plain; charset=utf-8\r\n\r\n"
    b"hi\x1b[2J\xe2\x80\xae\x9b\xc2\x9b\r\n--b\r\n"
    b'Content-Type: application/\x1bx; name="..\\\x1bvil.exe"\r\n'
    b"Content-Disposition: attachment; filename*=utf-8''..%2F%00%1B%0Apasswd\r\n\r\nx\r\n--b--\r\n"
)


@pytest.mark.parametrize("how", [[], ["--json"], ["--explain"], ["--lang", "fr"]])
def test_no_control_of_a_stranger_is_ever_printed(home: Path, tmp_path: Path, how: list[str]) -> None:
    headers = OUTER.replace(b"outside", b"=?utf-8?q?=1B]0;x=07=E2=80=AE=E2=81=A6=0Aline?= \x9b31m \xff\xfe")
    for number, raw in enumerate((headers + HOSTILE, headers + sign(HOSTILE))):
        path = tmp_path / f"\x1b]\u202e{number}.eml"
        path.write_bytes(raw)
        done = medmail(home, "decrypt", path, *how)
        assert done.exit in (0, 5)
        assert not CONTROLS.search(done.stdout + done.stderr)
        assert "hi" in done.stdout


ODD = {
    "empty": b"",
    "nul": b"\0",
    "newline": b"\n",
    "blank": b"\r\n\r\n",
    "utf-16": b"\xff\xfe" + "From: a@b\r\n\r\nx".encode("utf-16-le"),
    "junk": bytes(range(256)) * 40,
    "mbox": b"From alice Mon Nov 23 00:00:00 2026\n" + OUTER + b"\r\nx\r\n",
    "long header": b"Subject: " + b"x" * (3 << 20) + b"\r\n\r\nx",
    "many headers": b"a: b\r\n" * 200_000 + b"\r\nx",
    "cut": sealed()[:-400],
    "half": sealed()[: len(sealed()) // 2],
    "head": sealed()[:200],
    "pdf": b"%PDF-1.7\n1 0 obj",
    "gzip": b"\x1f\x8b\x08\x00",
    "no boundary": b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed\r\n\r\n--",
}


@pytest.mark.parametrize("raw", ODD.values(), ids=ODD)
def test_no_input_is_too_odd(home: Path, raw: bytes) -> None:
    done = medmail(home, "decrypt", "-", "--json", stdin=raw, timeout=120)
    assert done.exit in (1, 5, 6)
    found = done.objects[0]
    assert (found["trusted"], found["exit"]) == (False, done.exit)
    assert done.exit == 5 or (found["text"], found["attachments"]) == (None, [])
