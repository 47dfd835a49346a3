"""Fetching from Dovecot: every way in, every login, once each and nothing marked."""

import hashlib
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from medmail_cli.session import Options, Session
from medmail_cli.wiring.accounts import mail_server
from tests.support.cli import MEDMAIL, medmail
from tests.support.servers import sample, until

if TYPE_CHECKING:
    from tests.support.servers import MailServers


@pytest.fixture
def bob(mail_servers: "MailServers") -> str:
    address = mail_servers.new_mailbox("bob")
    mail_servers.inject(address, [sample(n, 5000) for n in range(12)])
    return address


def files(home: Path, folder: str = "INBOX") -> list[bytes]:
    return sorted(path.read_bytes() for path in (home / "mail" / "work" / folder / "new").iterdir())


@pytest.mark.parametrize("implicit", [False, True], ids=["starttls", "tls"])
def test_each_message_once_and_nothing_marked(
    mail_servers: "MailServers", bob: str, tmp_path: Path, implicit: bool
) -> None:
    mail_servers.write_config(tmp_path, bob, implicit=implicit)
    first = medmail(tmp_path, "fetch", "--json")
    assert first.exit == 0
    assert first.objects[-1]["counts"] == {"message": 12, "new": 12, "folder": 1, "done": 1}
    assert files(tmp_path) == sorted(sample(n, 5000) for n in range(12))
    assert set(mail_servers.flags(bob)) == {""}
    schema = json.loads(medmail(tmp_path, "schema", "fetch").stdout)
    for one in first.objects:
        jsonschema.validate(one, schema)
    assert medmail(tmp_path, "fetch", "--json").objects[-1]["counts"] == {"folder": 1, "done": 1}
    mail_servers.inject(bob, [sample(50)])
    later = medmail(tmp_path, "fetch", "--json").objects
    assert [one["uid"] for one in later if one["type"] == "message"] == [13]


def test_a_renumbered_folder_is_not_fetched_twice(
    mail_servers: "MailServers", bob: str, tmp_path: Path
) -> None:
    mail_servers.write_config(tmp_path, bob)
    medmail(tmp_path, "fetch")
    before = medmail(tmp_path, "inbox", "--json").objects
    mail_servers.new_uidvalidity(bob)
    mail_servers.inject(bob, [sample(60)])
    again = medmail(tmp_path, "fetch", "--json")
    assert again.objects[-1]["counts"] == {"message": 13, "known": 12, "new": 1, "folder": 1, "done": 1}
    assert len(files(tmp_path)) == 13
    # the time of judgement stays that of the first fetch
    after = {
        one["id"]: one for one in medmail(tmp_path, "inbox", "--json").objects if one["type"] == "message"
    }
    assert all(one["stored_at"] == after[one["id"]]["stored_at"] for one in before[:-1])


def test_all_folders_and_one(mail_servers: "MailServers", bob: str, tmp_path: Path) -> None:
    mail_servers.inject(bob, [sample(70)], "Archive.&AOk-t&AOk-")
    mail_servers.write_config(tmp_path, bob)
    one = medmail(tmp_path, "fetch", "--folder", "Archive.été", "--json")
    assert [o["folder"] for o in one.objects if o["type"] == "message"] == ["Archive.été"]
    assert medmail(tmp_path, "fetch", "--all-folders", "--json").objects[-1]["counts"]["new"] == 12
    assert medmail(tmp_path, "fetch", "--folder", "None").exit == 1


@pytest.mark.parametrize("grown", [False, True], ids=["gone back", "grown past it"])
def test_a_restored_mailbox_loses_nothing(
    mail_servers: "MailServers", bob: str, tmp_path: Path, grown: bool
) -> None:
    mail_servers.write_config(tmp_path, bob)
    assert medmail(tmp_path, "fetch", "--json").objects[-1]["counts"]["new"] == 12
    copy = mail_servers.backup(bob)
    mail_servers.inject(bob, [sample(n) for n in range(20, 24)])
    assert medmail(tmp_path, "fetch", "--json").objects[-1]["counts"]["new"] == 4
    mail_servers.restore(bob, copy)
    since = [sample(n) for n in range(30, 36 if grown else 32)]
    mail_servers.inject(bob, since)
    done = medmail(tmp_path, "fetch", "--json")
    assert done.exit == 0
    assert done.objects[-1]["counts"]["new"] == len(since)
    assert done.objects[-1]["counts"]["known"] == 12
    assert {hashlib.sha256(raw).hexdigest() for raw in since} <= {
        one.get("id") for one in medmail(tmp_path, "inbox", "--json").objects
    }
    assert len(files(tmp_path)) == 16 + len(since)
    assert medmail(tmp_path, "fetch", "--json").objects[-1]["counts"] == {"folder": 1, "done": 1}
    mail_servers.inject(bob, [sample(40)])
    assert medmail(tmp_path, "fetch", "--json").objects[-1]["counts"]["message"] == 1


@pytest.mark.parametrize(
    ("way", "exit_status", "code"), [("rights", 1, "server-refused"), ("permission", 75, "server-busy")]
)
def test_a_folder_one_may_not_open_is_told_of_and_keeps_back_no_other(
    mail_servers: "MailServers", bob: str, tmp_path: Path, way: str, exit_status: int, code: str
) -> None:
    for number, folder in enumerate(("Archive", "Closed", "Later")):
        mail_servers.inject(bob, [sample(70 + number)], folder)
    if way == "rights":
        mail_servers.set_rights(bob, "l", "Closed")
    else:
        (mail_servers.maildir(bob, "Closed") / "new").chmod(0)
    mail_servers.write_config(tmp_path, bob)
    for again in (False, True):
        done = medmail(tmp_path, "fetch", "--all-folders", "--json")
        assert done.exit == 3, done.stdout
        folders = {one["name"]: one for one in done.objects if one["type"] == "folder"}
        assert {"INBOX", "Archive", "Closed", "Later"} <= folders.keys()
        closed = folders.pop("Closed")
        assert (closed["status"], closed["exit"], closed["error"]) == ("failed", exit_status, code)
        assert closed["reason"]["reply"]
        assert {one["status"] for one in folders.values()} == {"done"}
        assert done.objects[-1]["counts"].get("new", 0) == (0 if again else 14)
    # asked for alone it is the run that fails
    alone = medmail(tmp_path, "fetch", "--folder", "Closed", "--json")
    assert alone.exit == exit_status
    if way == "rights":
        mail_servers.set_rights(bob, "lrswipkxtea", "Closed")
    else:
        (mail_servers.maildir(bob, "Closed") / "new").chmod(0o700)
    healed = medmail(tmp_path, "fetch", "--all-folders", "--json")
    assert (healed.exit, healed.objects[-1]["counts"]["new"]) == (0, 1)


LOGINS: dict[str, dict[str, Any]] = {
    "scram-sha-256": {},
    "plain": {},
    "login": {},
    "oauthbearer": {"token": True},
    "xoauth2": {"token": True},
    "external": {"certificate": True},
}


@pytest.mark.parametrize("auth", LOGINS)
def test_every_login(mail_servers: "MailServers", bob: str, tmp_path: Path, auth: str) -> None:
    keys: dict[str, Any] = {"auth": auth}
    if "token" in LOGINS[auth]:
        (tmp_path / "token").write_text(mail_servers.token(bob))
        keys["token-file"] = str(tmp_path / "token")
    if "certificate" in LOGINS[auth]:
        keys["client-identity"] = str(mail_servers.client_identity(bob))
    mail_servers.write_config(tmp_path, bob, **keys)
    done = medmail(tmp_path, "fetch", "--json")
    assert done.exit == 0, done.stderr
    assert done.objects[-1]["counts"]["new"] == 12


def test_refused_logins(mail_servers: "MailServers", bob: str, tmp_path: Path) -> None:
    (tmp_path / "wrong").write_text("sentinel wrong password\n")
    for auth in ("scram-sha-256", "plain", "login"):
        keys: dict[str, Any] = {"auth": auth, "password-file": str(tmp_path / "wrong")}
        mail_servers.write_config(tmp_path, bob, **keys)
        done = medmail(tmp_path, "fetch", "--json")
        assert (done.exit, done.objects[0]["code"]) == (4, "login-refused")
        assert "sentinel" not in done.stdout + done.stderr
    (tmp_path / "token").write_text(mail_servers.token(bob, -10))
    keys = {"auth": "xoauth2", "token-file": str(tmp_path / "token")}
    mail_servers.write_config(tmp_path, bob, **keys)
    assert medmail(tmp_path, "fetch").exit == 4


def test_a_certificate_that_is_not_vouched_for(mail_servers: "MailServers", bob: str, tmp_path: Path) -> None:
    from tests.support import pki

    (tmp_path / "other.pem").write_bytes(pki.pem(pki.make_ca("Other").certificate))
    keys: dict[str, Any] = {"tls-anchors": str(tmp_path / "other.pem")}
    mail_servers.write_config(tmp_path, bob, **keys)
    done = medmail(tmp_path, "fetch", "--json")
    assert (done.exit, done.objects[0]["code"]) == (5, "server-untrusted")


def test_one_account_that_fails_does_not_stop_the_others(
    mail_servers: "MailServers", bob: str, tmp_path: Path
) -> None:
    import tomli_w

    nowhere = mail_servers.account(bob) | {"imap": {"host": "127.0.0.1", "port": 1, "security": "tls"}}
    accounts = {"broken": nowhere, "work": mail_servers.account(bob)}
    (tmp_path / "config.toml").write_text(tomli_w.dumps({"accounts": accounts}))
    done = medmail(tmp_path, "fetch", "--all-accounts", "--json")
    assert done.exit == 3
    assert [(o["account"], o["exit"]) for o in done.objects if o["type"] == "account"] == [
        ("broken", 75),
        ("work", 0),
    ]


def test_watching(mail_servers: "MailServers", bob: str, tmp_path: Path) -> None:
    mail_servers.write_config(tmp_path, bob)
    hook = tmp_path / "hook.sh"
    hook.write_text(f'#!/bin/sh\ncat >> "{tmp_path}/seen"; exit 3\n')
    hook.chmod(0o755)
    environment = os.environ | {"MEDMAIL_HOME": str(tmp_path)}
    command = [MEDMAIL, "fetch", "--watch", "--exec", str(hook), "--json"]
    with (tmp_path / "out").open("wb") as out:
        watcher = subprocess.Popen(command, env=environment, stdout=out, stderr=subprocess.DEVNULL)
        try:
            seen = tmp_path / "seen"
            until(lambda: seen.exists() and len(seen.read_text().split()) == 12, "the first round")
            mail_servers.inject(bob, [sample(80, subject="$(touch injected) `touch injected`")])
            until(lambda: len(seen.read_text().split()) == 13, "the message to be noticed")
        finally:
            watcher.send_signal(signal.SIGTERM)
        assert watcher.wait(10) == 130
    ids = set(seen.read_text().split())
    listed = {one["id"] for one in medmail(tmp_path, "inbox", "--json").objects if one["type"] == "message"}
    assert ids == listed
    assert '"exec-failed"' in (tmp_path / "out").read_text()
    assert not (tmp_path / "injected").exists()
    assert medmail(tmp_path, "audit", "verify").exit == 0


def test_two_fetches_at_once(mail_servers: "MailServers", bob: str, tmp_path: Path) -> None:
    mail_servers.write_config(tmp_path, bob)
    environment = os.environ | {"MEDMAIL_HOME": str(tmp_path)}
    both = [subprocess.Popen([MEDMAIL, "fetch"], env=environment, stdout=subprocess.PIPE) for _ in range(2)]
    lines = sum(len(one.communicate()[0].splitlines()) for one in both)
    assert [one.returncode for one in both] == [0, 0]
    assert lines == 12
    assert files(tmp_path) == sorted(sample(n, 5000) for n in range(12))


def test_copies_in_the_servers_sent_folder(mail_servers: "MailServers", bob: str, tmp_path: Path) -> None:
    home = Session(Options(home=tmp_path))
    keys: dict[str, Any] = {"sent-folder": "Envoyés"}
    mail_servers.write_config(tmp_path, bob, **keys)
    account = home.account()
    with mail_server(home, account) as server:
        for message in (sample(1), sample(2, 200_000)):
            server.append("Envoyés", message)
    folder = "Envoy&AOk-s"
    kept = [raw.replace(b"\n", b"\r\n") for raw in mail_servers.messages(bob, folder)]
    assert [raw.replace(b"\r\r", b"\r") for raw in kept] == [sample(1), sample(2, 200_000)]
    assert mail_servers.flags(bob, folder) == ["S", "S"]
