"""config.toml: what it says, and how it complains."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medmail_cli.config import Config, load, paths, seconds
from medmail_cli.errors import MedmailError
from medmail_cli.profile import PROFILES
from medmail_cli.profile import load as load_profile

FULL = """\
profile = "generic"
lang = "fr"

[accounts.work]
address = "dr.martin@medecin.test"
smtp = { host = "mail.medecin.test", port = 587, security = "starttls" }
password-command = "pass show medecin"
tls-anchors = "operator-ca.pem"

[accounts.work.imap]
host = "mail.medecin.test"
port = 993

[authorities.order]
url = "https://ca.medecin.test/.well-known/est"
login = "registrar"
"""

POP3 = """\
[accounts.work]
address = "dr.martin@medecin.test"

[accounts.work.pop3]
host = "mail.medecin.test"
port = 995
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "config.toml"
    path.write_text(text)
    return path


def complaint(folder: Path, text: str) -> dict[str, object]:
    with pytest.raises(MedmailError) as caught:
        load(written(folder, text))
    assert caught.value.code == "bad-config"
    return caught.value.facts


def test_a_whole_file_is_read_and_its_paths_are_relative_to_it(tmp_path: Path) -> None:
    config = load(written(tmp_path, FULL))
    work = config.accounts["work"]
    assert config.lang == "fr"
    assert work.login == "dr.martin@medecin.test"
    assert work.smtp is not None
    assert (work.smtp.port, work.smtp.security) == (587, "starttls")
    assert work.imap is not None
    assert work.imap.security == "tls"
    assert work.tls_anchors == tmp_path / "operator-ca.pem"
    assert work.password.command == "pass show medecin"
    assert config.authorities["order"].method == "est"


def test_a_missing_file_is_an_empty_configuration(tmp_path: Path) -> None:
    assert load(tmp_path / "config.toml") == Config(tmp_path / "config.toml")


@pytest.mark.parametrize(
    ("change", "line", "reason"),
    [
        (('lang = "fr"', 'langue = "fr"'), 2, "unknown-key"),
        (('lang = "fr"', 'lang = "de"'), 2, "not-one-of"),
        (('lang = "fr"', "lang = 3"), 2, "wrong-type"),
        (('address = "dr.martin@medecin.test"', 'adress = "dr.martin@medecin.test"'), 5, "unknown-key"),
        (("port = 993", "port = 70000"), 12, "not-one-of"),
        (('security = "starttls"', 'security = "none"'), 6, "not-one-of"),
        (('login = "registrar"', 'logn = "registrar"'), 16, "unknown-key"),
        (('lang = "fr"', "lang = fr"), 2, "not-toml"),
        (('lang = "fr"', 'keyring = "yes"'), 2, "wrong-type"),
    ],
)
def test_a_fault_is_named_with_its_line(
    tmp_path: Path, change: tuple[str, str], line: int, reason: str
) -> None:
    facts = complaint(tmp_path, FULL.replace(*change))
    assert (facts["line"], facts["reason"]) == (line, reason)


@pytest.mark.parametrize("path", ["~somebody-nobody-knows/file.pem", "a\\u0000b"])
@pytest.mark.parametrize("key", ["tls-anchors", "client-identity", "password-file", "profile"])
def test_what_can_be_no_path_is_named_with_its_line(tmp_path: Path, key: str, path: str) -> None:
    account = '[accounts.work]\naddress = "dr.martin@medecin.test"\n'
    text = f'\n{key} = "{path}/x"\n'
    facts = complaint(tmp_path, text if key == "profile" else account + text)
    assert (facts["reason"], facts["line"]) == ("unreadable", 2 if key == "profile" else 4)


def test_letters_are_fetched_by_one_protocol(tmp_path: Path) -> None:
    account = load(written(tmp_path, POP3)).accounts["work"]
    assert (account.mailbox_server, list(account.servers)) == (account.pop3, ["pop3"])
    both = POP3 + '[accounts.work.imap]\nhost = "mail.medecin.test"\nport = 993\n'
    facts = complaint(tmp_path, both)
    assert (facts["reason"], facts["key"], facts["other"]) == ("excluded", "accounts.work.pop3", "imap")


def test_an_unknown_key_comes_with_the_nearest_right_one(tmp_path: Path) -> None:
    assert (
        complaint(tmp_path, FULL.replace("password-command", "pasword-command"))["nearest"]
        == "password-command"
    )


def test_bytes_that_are_not_utf_8_are_named_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(b'profile = "generic"\nlang = "\xff"\n')
    with pytest.raises(MedmailError) as caught:
        load(path)
    assert (caught.value.facts["line"], caught.value.facts["reason"]) == (2, "not-utf-8")


@given(st.text())
def test_whatever_stands_in_it_only_bad_config_is_raised(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.toml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    try:
        load(path)
    except MedmailError as error:
        assert error.code == "bad-config"  # noqa: PT017 - both ends are fine, others are not


@pytest.mark.parametrize("name", sorted(path.stem for path in PROFILES.glob("*.toml")))
def test_every_profile_that_comes_along_loads(name: str) -> None:
    assert load_profile(name).name == name


def test_a_profile_of_ones_own_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "clinic.toml"
    path.write_text('revocation = "hard"\n')
    assert load_profile(str(path)).revocation == "hard"
    path.write_text('revocation = "never"\n')
    with pytest.raises(MedmailError, match="bad-config"):
        load_profile(str(path))


def test_home_holds_everything() -> None:
    places = paths(Path("/somewhere"))
    assert places.config == Path("/somewhere/config.toml")
    assert places.keystore == Path("/somewhere/keystore")


def test_durations() -> None:
    assert [seconds(text) for text in ("90s", "15m", "2h", "30d")] == [90, 900, 7200, 2592000]
    for wrong in ("", "15", "m", "-1m", "1.5h", "9999999d", "१m"):
        with pytest.raises(ValueError):
            seconds(wrong)
