"""Fetching from Dovecot by POP3: every way in, each letter once, none marked or deleted."""

import json
from base64 import b64encode
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import tomli_w

from tests.support.cli import medmail
from tests.support.servers import HOST, sample
from tests.support.watching import PATIENT, watching

if TYPE_CHECKING:
    from tests.support.servers import MailServers

LETTERS = [sample(n, 5000) for n in range(12)] + [
    b"Subject: dots\r\n\r\n.\r\n..\r\n.x\r\n" * 3,
    sample(20, 3 << 20),
]


@pytest.fixture
def bob(mail_servers: "MailServers") -> str:
    address = mail_servers.new_mailbox("bob")
    mail_servers.inject(address, LETTERS)
    return address


def files(home: Path) -> list[bytes]:
    return sorted(path.read_bytes() for path in (home / "mail" / "work" / "INBOX" / "new").iterdir())


def by_pop3(mail_servers: "MailServers", home: Path, bob: str, security: str, **keys: Any) -> None:
    account = mail_servers.account(bob, **keys)
    del account["imap"]
    port = mail_servers.pop3s_port if security == "tls" else mail_servers.pop3_port
    account["pop3"] = {"host": HOST, "port": port, "security": security}
    (home / "config.toml").write_text(tomli_w.dumps({"accounts": {"work": account}}))


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_each_letter_once_as_imap_has_it(
    mail_servers: "MailServers", bob: str, tmp_path: Path, security: str
) -> None:
    by_pop3(mail_servers, tmp_path, bob, security)
    first = medmail(tmp_path, "fetch", "--json")
    assert (first.exit, first.objects[-1]["counts"]["new"]) == (0, len(LETTERS))
    assert medmail(tmp_path, "fetch", "--json").objects[-1]["counts"] == {"folder": 1, "done": 1}
    other = tmp_path / "other"
    mail_servers.write_config(other, bob)
    assert medmail(other, "fetch").exit == 0
    # by their octets, ids included
    assert files(tmp_path) == files(other)
    assert len(mail_servers.messages(bob)) == len(LETTERS)
    mail_servers.inject(bob, [sample(50)])
    assert medmail(tmp_path, "fetch", "--json").objects[-1]["counts"]["new"] == 1


@pytest.mark.parametrize("auth", ["plain", "login", "scram-sha-256", "xoauth2", "oauthbearer"])
def test_every_way_to_log_in(mail_servers: "MailServers", bob: str, tmp_path: Path, auth: str) -> None:
    by_pop3(mail_servers, tmp_path, bob, "tls", auth=auth)
    if auth in ("xoauth2", "oauthbearer"):
        (tmp_path / "token").write_text(mail_servers.token(bob))
        (tmp_path / "token").chmod(0o600)
        text = (tmp_path / "config.toml").read_text()
        (tmp_path / "config.toml").write_text(
            text.replace("[accounts.work]", '[accounts.work]\ntoken-file = "token"')
        )
    assert medmail(tmp_path, "fetch").exit == 0
    assert len(files(tmp_path)) == len(LETTERS)


@pytest.mark.parametrize("auth", ["plain", "login", "scram-sha-256"])
def test_a_trace_shows_neither_secrets_nor_letters(
    mail_servers: "MailServers", bob: str, tmp_path: Path, auth: str
) -> None:
    by_pop3(mail_servers, tmp_path, bob, "starttls", auth=auth)
    assert medmail(tmp_path, "--trace", tmp_path / "trace", "fetch").exit == 0
    said = (tmp_path / "trace").read_text()
    for secret in (mail_servers.password(bob), b64encode(mail_servers.password(bob).encode()).decode()[:12]):
        assert secret not in said
    assert "Subject" not in said
    for known in ("STLS", "RETR 1\n", "UIDL"):
        assert known in said


def test_a_wrong_password_is_refused_once(mail_servers: "MailServers", bob: str, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("wrong\n")
    by_pop3(mail_servers, tmp_path, bob, "tls", **{"password-file": str(wrong)})
    done = medmail(tmp_path, "fetch", "--json")
    assert (done.exit, done.objects[-1]["code"]) == (4, "login-refused")


def test_a_change_of_protocol_brings_nothing_twice(
    mail_servers: "MailServers", bob: str, tmp_path: Path
) -> None:
    mail_servers.write_config(tmp_path, bob)
    assert medmail(tmp_path, "fetch").exit == 0
    by_pop3(mail_servers, tmp_path, bob, "tls")
    assert "new" not in medmail(tmp_path, "fetch", "--json").objects[-1]["counts"]
    mail_servers.write_config(tmp_path, bob)
    mail_servers.inject(bob, [sample(50)])
    assert medmail(tmp_path, "fetch", "--json").objects[-1]["counts"]["new"] == 1
    assert len(medmail(tmp_path, "inbox", "--json").objects) == len(LETTERS) + 2


def test_letters_that_come_are_waited_for(mail_servers: "MailServers", bob: str, tmp_path: Path) -> None:
    by_pop3(mail_servers, tmp_path, bob, "tls")
    with watching(tmp_path, replace(PATIENT, poll=0.2)) as watched:
        watched.until(lambda: len(watched.uids) == len(LETTERS), "those that were there")
        for number in (1, 2):
            mail_servers.inject(bob, [sample(100 + number)])
            watched.until(lambda last=number: len(watched.uids) == len(LETTERS) + last, "another")  # type: ignore[misc]
    # a maildrop does not number letters
    assert set(watched.uids) == {0}
    assert not watched.interrupted_by


def test_what_the_server_offers_is_told(mail_servers: "MailServers", bob: str, tmp_path: Path) -> None:
    by_pop3(mail_servers, tmp_path, bob, "starttls")
    checked = medmail(tmp_path, "server", "check", "--json").objects
    (maildrop,) = (one for one in checked if one.get("protocol") == "pop3")
    assert maildrop["status"] == "ok"
    assert "PLAIN" in maildrop["mechanisms"]
    assert "UIDL" in maildrop["offers"]
    assert json.dumps(maildrop).count("STLS") == 0
