"""What is added to a register is found everywhere, and nowhere else."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from medmail_cli.registers import PROTOCOLS
from medmail_cli.workflows.enrol.revoke import Revoking
from tests.support.cli import Done

ADDED = """
from medmail_cli import registers
registers.LANGUAGES = (*registers.LANGUAGES, "xx")
registers.MECHANISMS["fake-256"] = registers.Mechanism("password", 0)
registers.PROTOCOLS["fake"] = registers.EnrolmentProtocol()
from medmail_cli.workflows.enrol import key_kinds
key_kinds.KEY_KINDS["fake512"] = key_kinds.KeyKind(lambda: None)
"""
RUN = "from medmail_cli.app import main; main()"
CONFIG = """
lang = "xx"
[accounts.work]
address = "a@x.test"
auth = "fake-256"
[authorities.order]
url = "https://ca.test"
method = "fake"
"""


def run(home: Path, script: str, *words: str) -> Done:
    made = subprocess.run(
        [sys.executable, "-c", script, *words],
        env=os.environ | {"MEDMAIL_HOME": str(home), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    return Done(made.returncode, made.stdout, made.stderr)


def test_what_is_added_is_taken_in_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(CONFIG)
    assert run(tmp_path, RUN, "inbox").exit == 78
    assert run(tmp_path, ADDED + RUN, "inbox") == Done(0, "", "")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("enrol", "new", "--help"), ("est|cmp|acme|fake|csr", "fake512")),
        (("--help",), ("en|fr|xx",)),
    ],
    ids=["enrol new", "medmail"],
)
def test_what_is_added_stands_in_the_help(tmp_path: Path, words: tuple[str, ...], named: tuple[str]) -> None:
    before, after = run(tmp_path, RUN, *words).stdout, run(tmp_path, ADDED + RUN, *words).stdout
    assert [name for name in named if name not in after] == []
    assert [name for name in named if name in before] == []


def test_a_protocol_is_asked_by_the_module_of_its_name(tmp_path: Path) -> None:
    script = """
import sys, types
spoken = types.ModuleType("medmail_cli.wiring.authority_fake")
spoken.endpoint, spoken.reach = str.upper, lambda asking: ("reached", asking.address)
sys.modules[spoken.__name__] = spoken
from medmail_cli.config import Authority
from medmail_cli.wiring.authorities import Asking, reach
print(reach(Asking(None, Authority("order", "https://ca.test", "fake"), "a@x.test")))
"""
    assert run(tmp_path, ADDED + script).stdout == "('reached', 'a@x.test')\n"


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_protocol_can_what_the_register_says(name: str) -> None:
    from importlib import import_module
    from typing import get_type_hints

    from medmail_cli.workflows.enrol.authority import KeyMaker, MailProving

    authority = get_type_hints(import_module(f"medmail_cli.wiring.authority_{name}").reach)["return"]
    can = [hasattr(authority, member) for member in ("generate", "revoke", "sign_up")]
    protocol = PROTOCOLS[name]
    assert can == [protocol.makes_keys, protocol.revokes, protocol.by_mail]
    assert {"generate", "revoke", "sign_up"} <= {
        member for one in (KeyMaker, Revoking, MailProving) for member in vars(one)
    }
