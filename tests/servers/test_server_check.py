"""``server check`` against real servers."""

from pathlib import Path
from typing import TYPE_CHECKING

import tomli_w

from tests.support.cli import medmail

if TYPE_CHECKING:
    from tests.support.servers import MailServers


def test_both_servers_in_order(mail_servers: "MailServers", tmp_path: Path) -> None:
    for implicit in (False, True):
        mail_servers.write_config(tmp_path, "alice@hosp.test", implicit=implicit)
        done = medmail(tmp_path, "server", "check", "--json")
        assert done.exit == 0, done.stdout
        imap, smtp, result = done.objects
        assert (imap["protocol"], imap["status"]) == ("imap", "ok")
        assert (smtp["protocol"], smtp["status"], smtp["size"]) == ("smtp", "ok", 104857600)
        assert "SCRAM-SHA-256" in imap["mechanisms"]
        assert "SCRAM-SHA-256" in smtp["mechanisms"]
        assert {"IDLE", "UIDPLUS"} <= set(imap["offers"])
        assert result["counts"] == {"server": 2, "ok": 2}
    said = medmail(tmp_path, "server", "check").stdout
    assert "in order" in said


def test_what_is_wrong_is_said_of_each(mail_servers: "MailServers", tmp_path: Path) -> None:
    (tmp_path / "wrong").write_text("sentinel wrong\n")
    account = mail_servers.account("alice@hosp.test")
    (tmp_path / "config.toml").write_text(
        tomli_w.dumps({"accounts": {"work": account | {"password-file": str(tmp_path / "wrong")}}})
    )
    refused = medmail(tmp_path, "server", "check", "--json")
    assert refused.exit == 4
    assert [one.get("error") for one in refused.objects[:2]] == ["login-refused"] * 2
    (tmp_path / "config.toml").write_text(
        tomli_w.dumps({"accounts": {"work": account | {"smtp": {"host": "127.0.0.1", "port": 1}}}})
    )
    half = medmail(tmp_path, "server", "check")
    assert half.exit == 3
    assert "127.0.0.1" in half.stderr
    assert "sentinel" not in refused.stdout + refused.stderr
