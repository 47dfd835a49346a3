"""``--trace``: what real servers are told and say, without secrets and letters."""

import base64
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.cli import medmail
from tests.support.servers import sample

if TYPE_CHECKING:
    from tests.support.servers import MailServers


@pytest.mark.parametrize("auth", ["plain", "login", "scram-sha-256"])
def test_a_trace_of_fetching_and_checking_holds_no_secret_and_no_letter(
    mail_servers: "MailServers", tmp_path: Path, auth: str
) -> None:
    address = mail_servers.new_mailbox("traced")
    mail_servers.inject(address, [sample(n, 400) for n in range(3)])
    home, trace = tmp_path / "home", tmp_path / "trace.txt"
    home.mkdir()
    mail_servers.write_config(home, address, auth=auth)
    for words in (("fetch",), ("server", "check")):
        assert medmail(home, *words, "--trace", trace).exit == 0
    said = trace.read_text()
    assert stat.S_IMODE(trace.stat().st_mode) == 0o600
    assert f"AUTHENTICATE {auth.upper()} [" in said
    assert f"AUTH {auth.upper()}" in said
    for word in ('EXAMINE "INBOX"', "UID FETCH", "EHLO", "STARTTLS", "QUIT", " FETCH (UID "):
        assert word in said
    password = mail_servers.password(address)
    for hidden in (
        password,
        base64.b64encode(password.encode()).decode(),
        base64.b64encode(f"\0{address}\0{password}".encode()).decode(),
        base64.b64encode(address.encode()).decode(),
        *(line for line in sample(1, 400).decode().split("\r\n") if len(line) > 20),
    ):
        assert hidden not in said


def test_a_trace_is_asked_for_by_the_environment_too(mail_servers: "MailServers", tmp_path: Path) -> None:
    home, trace = tmp_path / "home", tmp_path / "trace.txt"
    home.mkdir()
    mail_servers.write_config(home, mail_servers.new_mailbox("traced"))
    for _ in range(2):
        assert medmail(home, "fetch", env={"MEDMAIL_TRACE": str(trace)}).exit == 0
    assert trace.read_text().count("LOGOUT") == 2
    (tmp_path / "elsewhere").symlink_to(tmp_path / "other")
    for wrong in (tmp_path / "elsewhere", tmp_path / "none" / "trace.txt"):
        done = medmail(home, "fetch", "--trace", wrong, "--json")
        assert (done.exit, done.objects[-1]["code"]) == (1, "not-writable")


def test_a_trace_that_cannot_be_written_costs_the_trace_alone(
    mail_servers: "MailServers", tmp_path: Path
) -> None:
    """Nor is a device's mode changed, whoever runs it."""
    home, full = tmp_path / "home", Path("/dev/full")
    home.mkdir()
    mail_servers.write_config(home, mail_servers.new_mailbox("traced"))
    before = full.stat().st_mode
    done = medmail(home, "fetch", "--trace", full)
    assert (done.exit, done.stderr) == (0, "")
    assert full.stat().st_mode == before
