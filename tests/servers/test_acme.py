"""Certificates by ACME from acme2certifier, the challenge mail passing through Postfix and Dovecot."""

import contextlib
import datetime as dt
import email
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from medmail_cli.cms.keys import SoftwareKey
from medmail_cli.commands.judging import validator
from medmail_cli.commands.send import postage
from medmail_cli.errors import MedmailError
from medmail_cli.session import Options, Session
from medmail_cli.transport.acme import AcmeAuthority
from medmail_cli.workflows.acme_mail import Correspondence, by_smime
from medmail_cli.workflows.fetch import Source
from medmail_cli.workflows.reading import Reader
from tests.support import pki
from tests.support.acme_server import SENDER, AcmeServer, Front
from tests.support.servers import MailServers
from tests.support.tools import require, run


@dataclass
class Kept:
    """What a run leaves for the next."""

    state: bytes = b""

    def load(self) -> bytes:
        return self.state

    def save(self, state: bytes) -> None:
        self.state = state


@dataclass
class Signer:
    """The mail server of the authority: it says that a machine wrote the mail, and signs by S/MIME."""

    folder: Path
    ca: pki.Authority
    address: str = SENDER
    change: Callable[[bytes], bytes] = lambda message: message

    def __post_init__(self) -> None:
        require("openssl")
        self.folder.mkdir(parents=True, exist_ok=True)
        certificate, key = pki.issue(self.ca, self.address, "sign", "p256")
        (self.folder / "signer.pem").write_bytes(pki.pem(certificate, key))

    def __call__(self, message: bytes) -> bytes:
        head, _, body = self.change(complete(message)).partition(b"\r\n\r\n")
        # as RFC 9788 has it: the whole header inside, and the part marked
        inside = head.replace(b'charset="us-ascii"', b'charset="us-ascii"; hp="clear"')
        done = run(
            "openssl", "cms", "-sign", "-binary", "-signer", self.folder / "signer.pem",
            "-outform", "SMIME", "-crlfeol", stdin=inside + b"\r\n\r\n" + body,
        )  # fmt: skip
        outside = b"".join(
            line + b"\r\n" for line in head.split(b"\r\n") if not line.startswith((b"Content-", b"MIME-"))
        )
        return outside + done.stdout


def complete(message: bytes) -> bytes:
    """What RFC 8823 wants in the header and acme2certifier leaves out."""
    return b"Auto-Submitted: auto-generated; type=acme\r\n" + message


@dataclass
class Applicant:
    """Somebody with a mailbox who wants a certificate; each ``authority`` is like a run of its own."""

    mail: MailServers
    home: Path
    address: str
    roots: tuple[x509.Certificate, ...]
    account_key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )
    memory: Kept = field(default_factory=Kept)

    def __post_init__(self) -> None:
        self.mail.write_config(self.home, self.address)
        session = Session(Options(home=self.home))
        for root in self.roots:
            session.trust.add(root.public_bytes(Encoding.PEM), "root")
        self.csr = request_for(self.address)

    @contextlib.contextmanager
    def authority(self, url: str, *, unsigned: bool = False, **how: Any) -> Iterator[AcmeAuthority]:
        session = Session(Options(home=self.home))
        account = session.account()
        reader = Reader(
            (), (), validator(session, offline=True), session.contacts, session.profile, session.now()
        )
        post = Correspondence(
            Source(account, lambda: session.tls_context(account), lambda: session.credentials(account)),
            postage(session),
            [by_smime(reader)],
            unsigned,
        )
        how = {"tls_anchors": self.mail.anchors, "patience": 20.0, "roots": self.roots, **how}
        key = SoftwareKey(self.account_key)
        try:
            with AcmeAuthority(url, account_key=key, post=post, now=now, **how) as authority:
                yield authority
        finally:
            session.close()

    def enrol(self, url: str, **how: Any) -> tuple[x509.Certificate, ...]:
        with self.authority(url, **how) as authority:
            return authority.enrol(self.csr, self.memory)


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def request_for(address: str) -> x509.CertificateSigningRequest:
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(x509.SubjectAlternativeName([x509.RFC822Name(address)]), critical=False)
        .sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    )


@pytest.fixture(scope="module")
def mail_ca() -> pki.Authority:
    """Vouches for the authority's own mail."""
    return pki.make_ca("Mail Root")


@pytest.fixture(scope="module")
def signer(mail_ca: pki.Authority, tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return Signer(tmp_path_factory.mktemp("signer"), mail_ca)


@pytest.fixture(scope="module")
def running(
    mail_servers: MailServers, signer: Signer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AcmeServer]:
    with AcmeServer(tmp_path_factory.mktemp("acme"), mail_servers, signer) as server:
        yield server


@pytest.fixture
def server(running: AcmeServer, signer: Signer) -> Iterator[AcmeServer]:
    yield running
    running.held, running.sign, running.front.change = False, signer, Front.change
    signer.change = Signer.change


@pytest.fixture
def applicant(
    mail_servers: MailServers, running: AcmeServer, mail_ca: pki.Authority, tmp_path: Path
) -> Applicant:
    address = mail_servers.new_mailbox("applicant")
    return Applicant(mail_servers, tmp_path / "home", address, (running.ca.certificate, mail_ca.certificate))


def refused(code: str, call: Callable[[], object]) -> MedmailError:
    with pytest.raises(MedmailError) as caught:
        call()
    assert caught.value.code == code, caught.value
    return caught.value


# -- the right way


def test_a_certificate_by_answering_the_challenge_mail(server: AcmeServer, applicant: Applicant) -> None:
    began = time.monotonic()
    chain = applicant.enrol(server.url)
    assert time.monotonic() - began < 15
    assert chain[0].public_key() == applicant.csr.public_key()
    assert chain[-1] == server.ca.certificate
    answers = [email.message_from_bytes(raw) for raw in applicant.mail.messages(SENDER)]
    (answer,) = [one for one in answers if one["From"] == applicant.address]
    challenge = email.message_from_bytes(server.sent[-1])
    assert answer["In-Reply-To"] == challenge["Message-ID"]
    assert applicant.mail.flags(applicant.address) == [""]  # nothing was marked
