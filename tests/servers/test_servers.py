"""The fixture itself: what other tests rely on."""

import imaplib
import smtplib
import ssl
from typing import TYPE_CHECKING

import pytest

from tests.support.servers import HOST, sample

if TYPE_CHECKING:
    from tests.support.servers import MailServers


def context(servers: "MailServers") -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(servers.anchors))


def submit(servers: "MailServers", sender: str, recipient: str, message: bytes) -> None:
    with smtplib.SMTP_SSL(HOST, servers.smtps_port, context=context(servers)) as smtp:
        smtp.login(sender, servers.password(sender))
        smtp.sendmail(sender, [recipient], message)


def test_what_is_submitted_arrives(mail_servers: "MailServers") -> None:
    address = mail_servers.new_mailbox()
    submit(mail_servers, "alice@hosp.test", address, sample(1))
    mail_servers.wait_for(address, 1)
    with imaplib.IMAP4(HOST, mail_servers.imap_port) as imap:
        imap.starttls(context(mail_servers))
        imap.login(address, mail_servers.password(address))
        assert imap.select("INBOX", readonly=True) == ("OK", [b"1"])


def test_injected_messages_are_numbered_in_order(mail_servers: "MailServers") -> None:
    address = mail_servers.new_mailbox()
    mail_servers.inject(address, (sample(n) for n in range(20)))
    with imaplib.IMAP4_SSL(HOST, mail_servers.imaps_port, ssl_context=context(mail_servers)) as imap:
        imap.login(address, mail_servers.password(address))
        imap.select("INBOX", readonly=True)
        _, lines = imap.uid("FETCH", "1:*", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
    subjects = [line[1].strip() for line in lines if isinstance(line, tuple)]
    assert subjects == [b"Subject: Message %d" % n for n in range(20)]


@pytest.mark.parametrize(("recipient", "code"), [("refused@hosp.test", 550), ("later@hosp.test", 450)])
def test_recipients_are_refused_by_name(mail_servers: "MailServers", recipient: str, code: int) -> None:
    with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
        submit(mail_servers, "alice@hosp.test", recipient, sample(1))
    assert refused.value.recipients[recipient][0] == code


def test_refusals_and_size_can_change(mail_servers: "MailServers") -> None:
    mail_servers.set_access({"/^bob@/": "450 4.2.1 later"}, size_limit=20_000)
    try:
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            submit(mail_servers, "alice@hosp.test", "bob@hosp.test", sample(1))
        with pytest.raises(smtplib.SMTPSenderRefused):
            submit(mail_servers, "alice@hosp.test", "carol@hosp.test", sample(1, 30_000))
    finally:
        mail_servers.set_access()
    submit(mail_servers, "alice@hosp.test", "carol@hosp.test", sample(1, 30_000))
