"""Fetch under SIGKILL at any effect, on a full disk and in a read-only folder: the next run completes it."""

import os
import resource
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.cli import MEDMAIL, medmail
from tests.support.killer import KILLED, count_effects, kill_points, run_killed_at
from tests.support.servers import sample

if TYPE_CHECKING:
    from tests.support.servers import MailServers

MESSAGES = [sample(n, 3000) for n in range(5)]


def check(home: Path) -> None:
    """The next run has everything once, and the log holds together."""
    done = medmail(home, "fetch", "--json")
    assert done.exit == 0, done.stderr
    paths = list((home / "mail" / "work" / "INBOX").glob("*/*.medmail*"))
    assert sorted(path.read_bytes() for path in paths) == sorted(MESSAGES)
    assert {path.parent.name for path in paths} == {"new"}
    listed = medmail(home, "inbox", "--json").objects
    assert len({one["id"] for one in listed[:-1]}) == len(listed) - 1 == len(MESSAGES)
    assert medmail(home, "audit", "verify").exit == 0
    assert medmail(home, "fetch", "--json").objects[-1]["counts"] == {"folder": 1, "done": 1}


@pytest.fixture
def home(mail_servers: "MailServers", tmp_path: Path) -> Path:
    address = mail_servers.new_mailbox("kill")
    mail_servers.inject(address, MESSAGES)
    mail_servers.write_config(tmp_path / "home", address)
    return tmp_path / "home"


def emptied(home: Path) -> None:
    for place in ("mail", "audit"):
        shutil.rmtree(home / place, ignore_errors=True)


def test_killed_anywhere(home: Path) -> None:
    environment = os.environ | {"MEDMAIL_HOME": str(home)}
    total = count_effects(["medmail", "fetch"], env=environment)
    assert total > 100
    killed = 0
    for k in kill_points(total, 18):
        emptied(home)
        killed += run_killed_at(["medmail", "fetch"], k, env=environment).returncode == KILLED
        check(home)
    # the writers' threads make a run a few effects longer or shorter than the one that was counted
    assert killed > 14


@pytest.mark.parametrize("limit", [0, 2000, 20_000])
def test_a_full_disk(home: Path, limit: int) -> None:
    def full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    environment = os.environ | {"MEDMAIL_HOME": str(home)}
    done = subprocess.run(
        [MEDMAIL, "fetch", "--json"], env=environment, preexec_fn=full, capture_output=True, check=False
    )
    assert done.returncode == 1, done
    assert b'"code": "disk-full"' in done.stdout
    assert b"Traceback" not in done.stderr
    check(home)


def test_a_place_that_cannot_be_written(home: Path) -> None:
    # root writes past permissions, but not into a file that stands where a folder should
    (home / "mail").write_text("in the way")
    done = medmail(home, "fetch", "--json")
    assert (done.exit, done.objects[0]["code"]) == (1, "not-writable")
    (home / "mail").unlink()
    check(home)
