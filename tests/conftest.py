"""Fixtures every room of the tests may ask for."""

import signal
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

# a run in the background inherits that Ctrl-C is ignored, and would hand it on to the commands under test
signal.signal(signal.SIGINT, signal.default_int_handler)

# the cores are shared: what must be quick measures processor time itself
settings.register_profile("shared", deadline=None)
settings.register_profile("quick", deadline=None, max_examples=5)
settings.load_profile("shared")

# what these assert is shown when it fails, as a test's own is
pytest.register_assert_rewrite("tests.support.hammer")

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from medmail_cli.sandbox.operator import Operator
    from tests.support.openssl_est import OpenSslCa, OpenSslEst
    from tests.support.servers import MailServers


@pytest.fixture(scope="session")
def mail_servers() -> "Iterator[MailServers]":
    """Postfix and Dovecot on loopback, one pair a test worker."""
    from tests.support import servers

    running = servers.start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Operator]":
    """The sandbox's operator, in this process."""
    from medmail_cli.sandbox.operator import Operator

    with Operator(tmp_path_factory.mktemp("sandbox") / "s") as running:
        yield running


@pytest.fixture
def home(operator: "Operator", tmp_path: "Path") -> "Path":
    """Dr Martin's home, with a mailbox at the operator and nothing else yet; many modules have another."""
    from tests.support.cli import passphrase
    from tests.support.sandbox import MARTIN

    home = operator.home(MARTIN, tmp_path / "home")
    passphrase(home)
    return home


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> "OpenSslCa":
    """An authority that is the ``openssl`` program alone."""
    from tests.support.openssl_est import OpenSslCa
    from tests.support.tools import require

    require("openssl")
    return OpenSslCa.create(tmp_path_factory.mktemp("ca") / "order")


@pytest.fixture
def server(ca: "OpenSslCa") -> "Iterator[OpenSslEst]":
    """Its EST server."""
    from tests.support.openssl_est import OpenSslEst

    with OpenSslEst(ca) as running:
        yield running
