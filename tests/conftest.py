"""Fixtures every room of the tests may ask for."""

import signal
from typing import TYPE_CHECKING

import pytest

# a run in the background inherits that Ctrl-C is ignored, and would hand it on to the commands under test
signal.signal(signal.SIGINT, signal.default_int_handler)

# what these assert is shown when it fails, as a test's own is
pytest.register_assert_rewrite("tests.support.hammer")

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.servers import MailServers


@pytest.fixture(scope="session")
def mail_servers() -> "Iterator[MailServers]":
    """Postfix and Dovecot on loopback, one pair a test worker."""
    from tests.support import servers

    running = servers.start()
    yield running
    running.stop()
