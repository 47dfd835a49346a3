"""Watching a mailbox of Dovecot and sending by Postfix meanwhile: restarts, limits, servers without IDLE."""

import datetime as dt
import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from medmail_cli.model import Note
from medmail_cli.session import Options, Session
from medmail_cli.store.queue.outbox import QueuedMessage
from medmail_cli.wiring.sending import delivery_context
from medmail_cli.workflows.mail.outcomes import Retried
from medmail_cli.workflows.mail.refusals import Refusals
from medmail_cli.workflows.mail.retrying import retry_meanwhile
from tests.support.servers import sample
from tests.support.watching import PATIENT, watching

if TYPE_CHECKING:
    from tests.support.servers import MailServers


@pytest.fixture
def bob(mail_servers: "MailServers") -> str:
    address = mail_servers.new_mailbox("bob")
    mail_servers.inject(address, [sample(1)])
    return address


@pytest.fixture
def dovecot(mail_servers: "MailServers") -> "Iterator[MailServers]":
    yield mail_servers
    mail_servers.restart_dovecot()


def queued(sender: str, recipient: str, number: int = 1) -> QueuedMessage:
    message = sample(number, to=recipient)
    return QueuedMessage(
        hashlib.sha256(message).hexdigest(), message, "work", sender, (recipient,), "<1@hosp.test>",
        protection="transport-only", keep=False,
    )  # fmt: skip


def test_letters_are_announced(mail_servers: "MailServers", bob: str, tmp_path: Path) -> None:
    mail_servers.write_config(tmp_path, bob)
    with watching(tmp_path, PATIENT) as one:
        one.until(lambda: one.uids == [1], "the first letter")
        for number in (2, 3, 4):
            mail_servers.inject(bob, [sample(number)])
            one.until(lambda last=number: one.uids[-1] == last, f"letter {number}")  # type: ignore[misc]
    assert not one.interrupted_by


def test_dovecot_without_idle(dovecot: "MailServers", bob: str, tmp_path: Path) -> None:
    dovecot.restart_dovecot('protocol imap {\n imap_capability = "IMAP4rev1 SASL-IR LITERAL+"\n}\n')
    dovecot.write_config(tmp_path, bob, implicit=True)
    with watching(tmp_path, replace(PATIENT, poll=0.2)) as one:
        one.until(lambda: one.uids == [1], "the first letter")
        dovecot.inject(bob, [sample(2)])
        one.until(lambda: one.uids == [1, 2], "the second letter")


def test_dovecot_is_restarted(dovecot: "MailServers", bob: str, tmp_path: Path) -> None:
    dovecot.write_config(tmp_path, bob)
    with watching(tmp_path) as one:
        one.until(lambda: one.uids == [1], "the first letter")
        dovecot.stop_dovecot()
        one.until(lambda: one.interrupted_by, "the restart")
        dovecot.inject(bob, [sample(2)])
        dovecot.start_dovecot()
        one.until(lambda: one.uids == [1, 2], "the second letter")


def test_dovecot_allows_one_connection(dovecot: "MailServers", bob: str, tmp_path: Path) -> None:
    dovecot.restart_dovecot("protocol imap {\n mail_max_userip_connections = 1\n}\n")
    dovecot.write_config(tmp_path / "a", bob)
    dovecot.write_config(tmp_path / "b", bob)
    with watching(tmp_path / "a") as first:
        first.until(lambda: first.uids == [1], "the first letter")
        with watching(tmp_path / "b") as second:
            second.until(lambda: "server-busy" in second.interrupted_by, "the limit")
            (note, *_) = [each for each in second.events if isinstance(each, Note)]
            assert "Maximum number of connections" in str(note.facts["reply"])
            first.stopped = True
            first.until_ended()
            second.until(lambda: second.uids == [1], "its own turn")


def test_what_another_command_has_queued_is_sent_while_idling(
    mail_servers: "MailServers", bob: str, tmp_path: Path
) -> None:
    carol = mail_servers.new_mailbox("carol")
    mail_servers.write_config(tmp_path, bob)

    def flush(session: Session, refusals: Refusals) -> Iterator[object]:
        return retry_meanwhile(delivery_context(session), refusals)

    with watching(tmp_path, PATIENT, flush=flush) as one:
        one.until(lambda: one.uids == [1], "the first letter")
        other = Session(Options(home=tmp_path))
        other.outbox.enqueue([queued(bob, carol)], other.now(), claim=False)
        other.close()
        one.until(lambda: any(isinstance(each, Retried) for each in one.events), "the sending")
        mail_servers.wait_for(carol, 1)
        # and it idles on
        mail_servers.inject(bob, [sample(2)])
        one.until(lambda: one.uids == [1, 2], "the second letter")
    assert [each.status for each in one.events if isinstance(each, Retried)] == ["accepted"]


def test_a_refused_password_is_not_worn_out_by_what_is_due(
    mail_servers: "MailServers", bob: str, tmp_path: Path
) -> None:
    (tmp_path / "wrong").write_text("wrong\n")
    keys: dict[str, Any] = {"password-file": str(tmp_path / "wrong")}
    mail_servers.write_config(tmp_path, bob, **keys)
    session = Session(Options(home=tmp_path, no_input=True))
    hours = 0.0
    refusals = Refusals(
        clock=lambda: hours * 3600, forget=lambda _: session.secrets.forget("password", owner=bob)
    )

    def later() -> dt.datetime:
        return dt.datetime.now(dt.UTC) + dt.timedelta(hours=hours)

    def round_() -> list[object]:
        found = retry_meanwhile(replace(delivery_context(session), now=later), refusals)
        return [event for event in found if event is not None]

    session.outbox.enqueue([queued(bob, bob, n) for n in (1, 2, 3)], later(), claim=False)
    codes = []
    for then in (0.0, 0.2, 9.0, 18.0, 27.0):
        hours = then
        told = [event.code or "" for event in round_() if isinstance(event, Retried | Note)]
        codes.append(sorted(told))
    refused = ["login-refused"] * 3
    # three letters are one try; nothing before a quarter of an hour is over, nothing after the third
    assert codes == [refused, [], refused, [*refused, "watch-sends-no-more"], []]
    session.close()


def test_a_password_put_right_sends_on(mail_servers: "MailServers", bob: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("wrong\n")
    keys: dict[str, Any] = {"password-file": str(tmp_path / "file")}
    mail_servers.write_config(tmp_path, bob, **keys)
    session = Session(Options(home=tmp_path, no_input=True))
    refusals = Refusals(pause=0.0, forget=lambda _: session.secrets.forget("password", owner=bob))
    session.outbox.enqueue([queued(bob, bob)], session.now(), claim=False)
    later = replace(delivery_context(session), now=lambda: session.now() + dt.timedelta(hours=1))
    assert [event.code for event in retry_meanwhile(later, refusals) if isinstance(event, Retried)] == [
        "login-refused"
    ]
    (tmp_path / "file").write_text(mail_servers.password(bob) + "\n")
    later = replace(later, now=lambda: session.now() + dt.timedelta(hours=9))
    assert [event.status for event in retry_meanwhile(later, refusals) if isinstance(event, Retried)] == [
        "accepted"
    ]
    session.close()
