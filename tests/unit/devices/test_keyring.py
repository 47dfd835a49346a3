"""The kernel's keyring, where there is one, and password commands."""

import sys
from contextlib import suppress
from pathlib import Path

import pytest

from medmail_cli.devices import keyring
from medmail_cli.devices.programs import secret_command
from medmail_cli.errors import MedmailError
from tests.support.servers import until


def test_a_key_is_kept_for_its_folder_alone_and_forgotten(tmp_path: Path) -> None:
    with suppress(MedmailError):
        keyring.require_keyring()
        _keep_and_forget(tmp_path)
        return
    with pytest.raises(MedmailError) as caught:  # a container, say
        keyring.keep_master_key(tmp_path, bytes(32), 1)
    assert caught.value.code == "no-kernel-keyring"
    assert keyring.kept_master_key(tmp_path) is None
    assert not keyring.forget_master_key(tmp_path)


def _keep_and_forget(tmp_path: Path) -> None:
    keyring.keep_master_key(tmp_path, b"a" * 32, 3600)
    keyring.keep_master_key(tmp_path, b"b" * 32, 3600)
    assert keyring.kept_master_key(tmp_path) == b"b" * 32
    assert keyring.kept_master_key(tmp_path / "other") is None
    keyring.keep_master_key(tmp_path, b"b" * 32, 1)
    until(lambda: keyring.kept_master_key(tmp_path) is None, "the end of its time")
    keyring.keep_master_key(tmp_path, b"c" * 32, 3600)
    assert keyring.forget_master_key(tmp_path)
    assert keyring.kept_master_key(tmp_path) is None
    assert not keyring.forget_master_key(tmp_path)


def test_without_linux_there_is_no_keyring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(MedmailError) as caught:
        keyring.require_keyring()
    assert caught.value.code == "no-kernel-keyring"
    assert keyring.kept_master_key(tmp_path) is None


def test_the_desktops_keyring_costs_nothing_where_it_is_not_installed() -> None:
    assert keyring.desktop_secret("passphrase", "") is None
    assert "keyring" not in sys.modules


def test_a_password_command_gives_its_first_line() -> None:
    assert secret_command("printf 'one two\\r\\nthree\\n'") == b"one two"


@pytest.mark.parametrize(
    "command", ["false", "true", "/no/such/program", "'", "", "sh -c 'echo secret; exit 3'"]
)
def test_a_password_command_that_gives_none_is_refused(command: str) -> None:
    with pytest.raises(MedmailError) as caught:
        secret_command(command)
    assert caught.value.code == "secret-command-failed"
    assert "secret" not in str(caught.value.facts["reason"])
