"""Fixtures every room of the tests may ask for."""

from typing import TYPE_CHECKING

import pytest

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
