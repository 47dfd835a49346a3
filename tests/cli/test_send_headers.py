"""Header fields that a network wants, and whose values are each user's."""

from email import message_from_bytes
from pathlib import Path

import pytest

from tests.support import letters
from tests.support.homes import make_home
from tests.support.senders import Sender

BOB = letters.person("bob")


@pytest.fixture
def alice(tmp_path: Path) -> Sender:
    made = Sender(make_home(tmp_path, letters.person("alice")), letters.person("alice"))
    made.knows(BOB)
    return made


def configured(who: Sender, headers: str = "") -> None:
    account = f'[accounts.work]\naddress = "{who.person.address}"\n'
    (who.home / "config.toml").write_text(f'profile = "mssante"\n{headers}{account}')


def written(who: Sender, *options: str) -> tuple[Path, str]:
    out = who.home.parent / "out.eml"
    to = ("--from", who.person.address, "--to", BOB.address, "--subject", "x", "-o", out, "--force")
    done = who.run("send", *to, *options, "-", stdin=b"hello\n")
    assert done.exit == 0, done
    return out, done.stderr


def test_the_reference_of_one_s_product_stands_in_every_letter(alice: Sender) -> None:
    configured(alice, '[headers]\nX-MSS-NIL = "0101-2345"\nX-Laboratory = "Été"\n')
    out, said = written(alice)
    sent = message_from_bytes(out.read_bytes())
    assert (sent["X-MSS-NIL"], said) == ("0101-2345", "")
    assert "X-Laboratory" in sent


def test_a_network_that_wants_one_and_gets_none_is_told_of_loudly(alice: Sender) -> None:
    configured(alice)
    out, said = written(alice)
    assert "X-MSS-NIL" not in message_from_bytes(out.read_bytes())
    assert "X-MSS-NIL" in said  # off a terminal too
    to = ("--from", alice.person.address, "--to", BOB.address, "--subject", "x")
    done = alice.send(*to, "--dry-run", "-", stdin=b"a\n")
    notes = [one for one in done.objects if one["type"] == "note"]
    assert [(one["code"], one["header"]) for one in notes] == [("header-wanted", "X-MSS-NIL")]
    configured(alice, '[headers]\nx-mss-nil = "1"\n')
    assert written(alice)[1] == ""


@pytest.mark.parametrize(
    "line",
    [
        'From = "a@b.test"',
        'BCC = "e@x.test"',
        'Content-Type = "text/html"',
        'HP-Outer = "Subject: x"',
        '"X Y" = "1"',
        '"X:Y" = "1"',
        'X-A = "a\\r\\nBcc: e@x.test"',
        'X-A = ""',
        "X-A = 1",
        f'X-A = "{"y" * 501}"',
    ],
)
def test_no_field_of_the_letter_s_own_and_no_second_line_is_added(alice: Sender, line: str) -> None:
    configured(alice, f"[headers]\n{line}\n")
    done = alice.run("config", "show", "--json")
    assert (done.exit, done.objects[-1]["code"]) == (78, "bad-config")
    assert "config.toml, line 3:" in done.stderr
