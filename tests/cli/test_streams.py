"""The three streams: data, messages and what never goes to a terminal."""

import os
import subprocess
from pathlib import Path

import pexpect
import pytest

from tests.support.cli import MEDMAIL, medmail
from tests.support.homes import make_home
from tests.support.letters import FILE, letter, person, sealed

POSITIONS = (
    ("--json", "keys", "list"),
    ("keys", "--json", "list"),
    ("keys", "list", "--json"),
    ("--json", "keys", "--json", "list", "--json"),
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_home(tmp_path_factory.mktemp("bob"), person("bob"))


@pytest.fixture(scope="module")
def message(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("letters") / "letter.eml"
    path.write_bytes(sealed(letter(attachments=(FILE,))))
    return path


def shell(home: Path, line: str, **env: str) -> subprocess.CompletedProcess[str]:
    """A line of shell, where redirections are what is tested."""
    around = {"PATH": f"{Path(MEDMAIL).parent}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8"}
    around |= {"MEDMAIL_HOME": str(home), "MEDMAIL_PASSPHRASE_FILE": f"{home}.passphrase"}
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line}"],
        env=around | env,
        cwd=home.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def terminal(home: Path, *argv: str | Path, **env: str) -> tuple[str, int | None]:
    """What a person at a terminal sees, and the exit."""
    around = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "TERM")}
    around |= {"MEDMAIL_HOME": str(home), "LC_ALL": "C.UTF-8", "TERM": "xterm"}
    around |= {"MEDMAIL_PASSPHRASE_FILE": f"{home}.passphrase"} | env
    child = pexpect.spawn(MEDMAIL, [*map(str, argv)], env=around, encoding="utf-8", timeout=60)
    child.expect(pexpect.EOF)
    child.close()
    return child.before or "", child.exitstatus


# --- options ------------------------------------------------------------------------------------------------


def test_global_options_stand_anywhere(home: Path) -> None:
    said = {medmail(home, *argv).stdout for argv in POSITIONS}
    assert len(said) == 1
    assert '"type": "result"' in said.pop()


def test_a_value_is_no_option(home: Path) -> None:
    done = shell(home, "medmail contacts find -- --json")
    assert (done.returncode, done.stdout) == (1, "")


def test_success_is_silent_on_stderr(home: Path, message: Path) -> None:
    for argv in (["keys", "list"], ["decrypt", message], ["audit", "verify"], ["config", "path"], ["--help"]):
        done = medmail(home, *argv)
        assert (done.exit, done.stderr) == (0, ""), argv
        assert "\x1b" not in done.stdout


@pytest.mark.parametrize("argv", [(), ("keys",), ("keys", "nonsense"), ("decrypt", "--nonsense", "x.eml")])
def test_usage_errors_are_json_too(home: Path, argv: tuple[str, ...]) -> None:
    plain = medmail(home, *argv)
    assert (plain.exit, plain.stdout) == (2, "")
    assert "\nmedmail: error: " in f"\n{plain.stderr}"
    assert "\nhint: " in plain.stderr
    for words in (["--json", *argv], [*argv, "--json"]):
        done = medmail(home, *words)
        assert [line["code"] for line in done.objects] == ["usage"]
        assert done.stderr.startswith("medmail: error: ")


def test_quiet_says_errors_only(home: Path, tmp_path: Path) -> None:
    done = medmail(home, "-q", "keys")
    assert done.stderr.splitlines()[0].startswith("medmail: error: ")
    assert medmail(home, "keys", "-q").stderr == done.stderr


# --- terminals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "env"),
    [(["--no-color"], {}), ([], {"NO_COLOR": "1"}), ([], {"TERM": "dumb"})],
    ids=["flag", "variable", "dumb"],
)
def test_colours_can_be_done_without(home: Path, message: Path, argv: list[str], env: dict[str, str]) -> None:
    coloured, _ = terminal(home, "decrypt", message)
    assert "\x1b[" in coloured
    plain, code = terminal(home, *argv, "decrypt", message, **env)
    assert (code, "\x1b" in plain) == (0, False)
    assert "Signed by alice@medecin.test" in plain


def test_binary_never_goes_to_a_terminal(home: Path, message: Path) -> None:
    _, code = terminal(home, "decrypt", message, "--format", "eml")
    assert code == 2
    said, code = terminal(home, "keys", "export", "bob@medecin.test", "--format", "der", "--no-color")
    assert code == 2
    assert "medmail: error: " in said
    piped = shell(home, "medmail keys export bob@medecin.test --format der | openssl x509 -inform der -noout")
    assert (piped.returncode, piped.stderr) == (0, "")


# --- pipes --------------------------------------------------------------------------------------------------


def test_a_reader_that_goes_away_is_no_error(home: Path, message: Path) -> None:
    done = shell(home, f"medmail decrypt {message} {message} | head -1")
    assert (done.stdout.count("\n"), done.stderr) == (1, "")
    assert medmail(home, "audit", "verify").exit == 0
    assert shell(home, "medmail decrypt --help | head -1").stderr == ""


@pytest.mark.parametrize("how", ["", "--json", "-o -"])
def test_a_full_disk_under_stdout(home: Path, message: Path, how: str) -> None:
    words = "decrypt" if how == "-o -" else "decrypt --explain"
    done = shell(home, f"medmail {words} {message} {how} > /dev/full")
    assert done.returncode == 1
    assert done.stderr == (
        "medmail: error: no space left to write stdout\nhint: free some space and run the command again\n"
    )


def test_closed_streams_are_empty_ones(home: Path, message: Path) -> None:
    assert shell(home, f"medmail decrypt {message} >&- 2>&-").returncode == 0
    assert shell(home, "medmail decrypt - <&-").returncode == 1
    assert shell(home, "medmail nonsense 2>&-").returncode == 2


def test_json_is_utf8_in_any_locale(home: Path, message: Path) -> None:
    env = {"PYTHONIOENCODING": "ascii"}
    assert "Résultats de Mme Durand" in medmail(home, "decrypt", message, "--json", env=env).stdout
    done = medmail(home, "decrypt", message, env=env)
    assert (done.exit, "R\\xe9sultats" in done.stdout) == (0, True)


# --- stdin and output ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "argv",
    [
        ["decrypt", "-", "-"],
        ["decrypt", "-", "--passphrase-file", "-"],
        ["--passphrase-fd", "0", "decrypt", "-"],
        ["enrol", "import", "-", "--key-file", "-"],
        ["trust", "add", "-", "--p12-password-file", "-"],
    ],
)
def test_two_readers_of_stdin(home: Path, argv: list[str]) -> None:
    done = medmail(home, *argv, "--json", stdin=b"junk")
    assert (done.exit, done.objects[-1]["code"]) == (2, "stdin-twice")


def test_an_output_is_whole_and_never_what_is_read(home: Path, message: Path, tmp_path: Path) -> None:
    source = tmp_path / "letter.eml"
    source.write_bytes(message.read_bytes())
    (tmp_path / "link.txt").symlink_to(source)
    for name in ("letter.eml", "./letter.eml", "link.txt"):
        done = medmail(home, "decrypt", source, "-o", f"{tmp_path}/{name}", "--force", "--json")
        assert (done.exit, done.objects[-1]["code"]) == (2, "output-is-input")
    assert source.read_bytes() == message.read_bytes()


def test_outputs_that_cannot_be(home: Path, message: Path, tmp_path: Path) -> None:
    for target in (tmp_path / "missing" / "x", tmp_path, Path("/proc/nothing/x")):
        done = medmail(home, "decrypt", message, "-o", target, "--json")
        assert (done.exit, done.objects[-1]["code"]) == (1, "not-writable")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    own = make_home(tmp_path, person("bob"))
    big = tmp_path / "big.eml"
    big.write_bytes(
        sealed(letter(attachments=(FILE.__class__("scan.bin", "application/pdf", bytes(90_000)),)))
    )
    for how in ("-o out.eml --format eml", "--out-dir out"):
        done = shell(own, f"ulimit -f 40; medmail decrypt {big} {how} --json")
        assert '"code": "disk-full"' in done.stdout.splitlines()[-1]
        assert done.returncode == 1
    assert not (tmp_path / "out.eml").exists()
    assert [path for path in tmp_path.rglob("*") if path.suffix == ".tmp" or path.name == "scan.bin"] == []


def test_send_writes_to_stdout_for_a_dash(tmp_path: Path) -> None:
    own = make_home(tmp_path, person("alice"), person("bob"))
    config = '[accounts.work]\naddress = "alice@medecin.test"\nsmtp = { host = "127.0.0.1", port = 9 }\n'
    (own / "config.toml").write_text(config)
    to_bob = ["send", "--to", "bob@medecin.test", "-o", "-", "-"]
    done = medmail(own, *to_bob, stdin=b"Bonjour\n")
    assert (done.exit, done.stderr, done.stdout.startswith("From: ")) == (0, "", True)
    assert medmail(own, "decrypt", "-", "-o", "-", stdin=done.stdout.encode()).stdout == "Bonjour\n"
    assert medmail(own, *to_bob, "--json", stdin=b"Bonjour\n").exit == 2
    # what is told of the others does not stand between
    done = medmail(own, *to_bob, "--to", "zoe@medecin.test", "--partial", stdin=b"Bonjour\n")
    assert (done.exit, done.stdout.startswith("From: "), "zoe" in done.stdout) == (3, True, False)
    assert "zoe@medecin.test" in done.stderr


def test_a_prompt_that_is_left(home: Path, message: Path) -> None:
    env = os.environ | {"MEDMAIL_HOME": str(home), "LC_ALL": "C.UTF-8", "TERM": "dumb"}
    for leave in ("sendintr", "sendeof"):
        child = pexpect.spawn(MEDMAIL, ["decrypt", str(message)], env=env, encoding="utf-8", timeout=60)
        child.expect("Passphrase of the keystore: ")
        getattr(child, leave)()
        child.expect(pexpect.EOF)
        child.close()
        assert child.exitstatus == 130
        assert (child.before or "").startswith("\r\nmedmail: error: interrupted\r\n")
