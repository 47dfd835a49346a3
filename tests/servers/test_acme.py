"""Certificates by ACME from acme2certifier, the challenge mail passing through Postfix and Dovecot."""

import base64
import contextlib
import datetime as dt
import email
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import Any

import dkim
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from medmail_cli.cms.certificates import fingerprint
from medmail_cli.cms.keys import SoftwareKey
from medmail_cli.errors import MedmailError, exit_of
from medmail_cli.pki.issuance import acme, jose
from medmail_cli.session import Options, Session
from medmail_cli.transport.acme import AcmeAuthority
from medmail_cli.transport.acmeserver import AcmeServer as Client
from medmail_cli.transport.acmeserver import ExternalAccount
from medmail_cli.wiring.accounts import source_of
from medmail_cli.wiring.opening import validator
from medmail_cli.wiring.sending import delivery_context
from medmail_cli.workflows.enrol.acme_challenge import Correspondence, by_dkim, by_smime
from medmail_cli.workflows.mail.opening import MessageOpener
from tests.support import pki
from tests.support.acme_server import (
    KID,
    MAC_KEY,
    SENDER,
    AcmeServer,
    Cut,
    Reply,
    Signer,
    as_it_is,
    complete,
    pebble,
    unchanged,
)
from tests.support.homes import trusting
from tests.support.servers import MailServers, until

NO_KEY = SoftwareKey(ec.generate_private_key(ec.SECP256R1()))
"""What other methods prove possession with."""


@dataclass
class Kept:
    """What a run leaves for the next."""

    state: bytes = b""

    def load(self) -> bytes:
        return self.state

    def save(self, state: bytes) -> None:
        self.state = state


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
    records: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.mail.write_config(self.home, self.address)
        trusting(self.home, *self.roots)
        self.csr = request_for(self.address)

    def lookup(self, name: str) -> list[bytes]:
        return [self.records[name]] if name in self.records else []

    @contextlib.contextmanager
    def authority(self, url: str, *, unsigned: bool = False, **how: Any) -> Iterator[AcmeAuthority]:
        session = Session(Options(home=self.home))
        account = session.account()
        opener = MessageOpener(
            (), (), validator(session, offline=True), session.contacts, session.profile, session.now()
        )
        post = Correspondence(
            source_of(session, account),
            delivery_context(session),
            [by_smime(opener), by_dkim(self.lookup, now)],
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
            return authority.enrol(self.csr, NO_KEY, self.memory)


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
    running.held, running.sign, running.front.change = False, signer, as_it_is
    signer.change = unchanged
    running.front.seen.clear()


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


def answers(applicant: Applicant) -> list[Message]:
    """What the authority was sent by this applicant."""
    found = [email.message_from_bytes(raw) for raw in applicant.mail.messages(SENDER)]
    return [one for one in found if one["From"] == applicant.address]


def finalized(server: AcmeServer) -> int:
    """How many requests were handed over."""
    return sum(path.endswith("/finalize") for _, path in server.front.seen)


# -- the right way


def test_a_certificate_by_answering_the_challenge_mail(server: AcmeServer, applicant: Applicant) -> None:
    chain = applicant.enrol(server.url)
    assert chain[0].public_key() == applicant.csr.public_key()
    assert chain[-1] == server.ca.certificate
    (answer,) = answers(applicant)
    assert answer["In-Reply-To"] == email.message_from_bytes(server.sent[-1])["Message-ID"]
    assert applicant.mail.flags(applicant.address) == [""]  # nothing was marked
    assert applicant.enrol(server.url) == chain  # asked again, the same order has the same certificate
    assert (finalized(server), len(answers(applicant))) == (1, 1)


def test_an_account_is_used_again_and_its_certificate_is_revoked(
    server: AcmeServer, applicant: Applicant
) -> None:
    first = applicant.enrol(server.url)
    applicant.csr, applicant.memory = request_for(applicant.address), Kept()
    with applicant.authority(server.url) as authority:
        second = authority.enrol(applicant.csr, NO_KEY, applicant.memory)
        assert authority.anchors() == (server.ca.certificate,)
        for _ in range(2):  # to have it done already is no error
            authority.revoke(first[0], reason="superseded")
    assert second[0].public_key() != first[0].public_key()
    crl = x509.load_pem_x509_crl((server.folder / "ca.crl").read_bytes())
    assert [one.serial_number for one in crl] == [first[0].serial_number]


def test_an_external_account_and_terms_of_service(
    mail_servers: MailServers, signer: Signer, mail_ca: pki.Authority, tmp_path: Path
) -> None:
    asked = []

    def agree(terms: str) -> bool:
        asked.append(terms)
        return len(asked) > 1

    bound = ExternalAccount(KID, lambda: MAC_KEY.encode() + b"=")
    with AcmeServer(
        tmp_path / "acme", mail_servers, signer, terms="https://ca.test/terms", binding=True
    ) as server:
        roots = (server.ca.certificate, mail_ca.certificate)
        applicant = Applicant(mail_servers, tmp_path / "home", mail_servers.new_mailbox("bound"), roots)
        error = refused("ca-refused", lambda: applicant.enrol(server.url, agree=agree))
        assert (error.facts["detail"], asked, exit_of(error.code)) == ("externalAccountRequired", [], 4)
        error = refused("ca-refused", lambda: applicant.enrol(server.url, agree=agree, external=bound))
        assert "https://ca.test/terms" in str(error.facts["detail"])
        wrong = ExternalAccount(KID, lambda: b"d3Jvbmc")
        refused("ca-refused", lambda: applicant.enrol(server.url, agree=agree, external=wrong))
        applicant.enrol(server.url, agree=agree, external=bound)
        assert asked == ["https://ca.test/terms"] * 3
        applicant.enrol(server.url)  # neither is asked for again


def test_a_strict_server_that_rejects_nonces_by_chance(mail_servers: MailServers, tmp_path: Path) -> None:
    """Pebble judges signatures, headers and URLs; as it certifies no addresses, a domain has to do."""
    with pebble(tmp_path, mail_servers, binding=True) as url, contextlib.ExitStack() as ended:
        key = SoftwareKey(ec.generate_private_key(ec.SECP256R1()))
        client = Client(url, key, tls_anchors=mail_servers.anchors)
        ended.callback(client.close)
        agreed: list[str] = []

        def agree(terms: str) -> bool:
            agreed.append(terms)
            return True

        client.sign_up(agree, ExternalAccount(KID, MAC_KEY.encode))
        again = Client(url, key, tls_anchors=mail_servers.anchors)
        ended.callback(again.close)
        again.sign_up(lambda _terms: False)
        assert agreed
        assert again.account == client.account
        answer = client.post(
            client.directory.new_order, {"identifiers": [{"type": "dns", "value": "ca.test"}]}
        )
        order = acme.order(answer.body)
        for each in order.authorizations:
            found = acme.authorization(client.post(each).body)
            client.post(next(one.url for one in found.challenges if one.type == "http-01"), {})
        where = client.location(answer)
        until(lambda: acme.order(client.post(where).body).status == "ready", "the order to be ready")
        csr = (
            x509.CertificateSigningRequestBuilder()
            .subject_name(x509.Name([]))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("ca.test")]), critical=False)
            .sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
        )
        client.post(order.finalize, {"csr": jose.encode(csr.public_bytes(Encoding.DER))})
        until(lambda: acme.order(client.post(where).body).status == "valid", "the certificate")
        chain = acme.chain(client.post(acme.order(client.post(where).body).certificate).body)
        assert chain[0].public_key() == csr.public_key()


# -- mails that are not what they should be


def test_a_mail_that_nothing_proves_is_not_answered_unless_so_configured(
    server: AcmeServer, applicant: Applicant
) -> None:
    server.sign = complete
    error = refused("challenge-not-genuine", lambda: applicant.enrol(server.url, patience=2.0))
    assert (error.facts["reason"], exit_of(error.code), answers(applicant)) == ("unproven", 5, [])
    assert applicant.enrol(server.url, unsigned=True)


def test_dkim_proves_a_challenge_as_well(server: AcmeServer, applicant: Applicant) -> None:
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    public = base64.b64encode(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    covered = [b"From", b"To", b"Subject", b"Message-ID", b"Auto-Submitted", b"Reply-To"]

    def sign(message: bytes) -> bytes:
        message = complete(message)
        made: bytes = dkim.sign(message, b"acme", b"hosp.test", pem, include_headers=covered)
        return made + message

    server.sign = sign
    error = refused("challenge-not-genuine", lambda: applicant.enrol(server.url, patience=2.0))
    assert error.facts["reason"] == "unproven"  # nobody has published the key
    applicant.records["acme._domainkey.hosp.test"] = b"v=DKIM1; p=" + public
    assert applicant.enrol(server.url)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (b"auto-generated", b"no", "not-automatic"),
        (b"To: applicant", b"To: b-applicant", "wrong-recipient"),
        (b"Subject: ACME: ", b"Subject: ACME: AAAA\r\nSubject: ACME: ", "several-subject"),
    ],
)
def test_a_signed_mail_that_is_no_challenge_of_ours_is_not_answered(
    server: AcmeServer, signer: Signer, applicant: Applicant, old: bytes, new: bytes, fault: str
) -> None:
    signer.change = lambda message: message.replace(old, new)
    error = refused("challenge-not-genuine", lambda: applicant.enrol(server.url, patience=2.0))
    assert (error.facts["fault"], answers(applicant)) == (fault, [])


def test_somebody_elses_signed_challenge_is_not_answered_and_ours_is(
    server: AcmeServer, applicant: Applicant, mail_ca: pki.Authority, signer: Signer, tmp_path: Path
) -> None:
    """A mail that is all it should be but from another: trusted, signed, with a token of its own."""
    mallory = Signer(tmp_path / "mallory", mail_ca, "mallory@hosp.test")
    unsigned = complete

    def both(message: bytes) -> bytes:
        forged = message.replace(SENDER.encode(), b"mallory@hosp.test").replace(b"ACME: ", b"ACME: AAAA")
        impostor = message.replace(b"ACME: ", b"ACME: BBBB")
        # as its own; under the authority's name with its own certificate; and without any signature
        server.mail.inject(applicant.address, [mallory(forged), mallory(impostor), unsigned(impostor)])
        return signer(message)

    server.sign = both
    applicant.enrol(server.url)
    (answer,) = answers(applicant)
    assert answer["Subject"] == "Re: " + email.message_from_bytes(server.sent[-1])["Subject"]


def test_of_several_challenges_none_is_answered_and_the_next_order_is_fine(
    server: AcmeServer, applicant: Applicant, signer: Signer
) -> None:
    def twice(message: bytes) -> bytes:
        server.mail.inject(applicant.address, [signer(message.replace(b"ACME: ", b"ACME: AAAA"))])
        return signer(message)

    server.sign = twice
    error = refused("challenge-not-genuine", lambda: applicant.enrol(server.url))
    assert (error.facts["reason"], answers(applicant)) == ("several-challenges", [])
    server.sign = signer
    assert applicant.enrol(server.url)


def test_the_same_challenge_delivered_twice_is_answered_once(
    server: AcmeServer, applicant: Applicant, signer: Signer
) -> None:
    def again(message: bytes) -> bytes:
        signed = signer(message)
        server.mail.inject(applicant.address, [signed])
        return signed + b"\r\n"

    server.sign = again
    applicant.enrol(server.url)
    assert len(answers(applicant)) == 1


def test_a_challenge_that_takes_its_time_is_waited_for_in_the_same_order(
    server: AcmeServer, applicant: Applicant, signer: Signer
) -> None:
    server.held = True
    error = refused("ca-pending", lambda: applicant.enrol(server.url, patience=1.0))
    assert exit_of(error.code) == 75
    orders = [path for _, path in server.front.seen if path.endswith("/neworders")]
    applicant.mail.inject(applicant.address, [signer(server.sent[-1])])
    applicant.enrol(server.url)
    assert [path for _, path in server.front.seen if path.endswith("/neworders")] == orders


def test_a_challenge_of_an_order_before_is_not_mistaken_for_ours(
    server: AcmeServer, applicant: Applicant
) -> None:
    applicant.enrol(server.url)
    applicant.csr, applicant.memory = request_for(applicant.address), Kept()
    server.held = True
    refused("ca-pending", lambda: applicant.enrol(server.url, patience=1.0))
    assert len(answers(applicant)) == 1


# -- what servers do


def test_a_wrong_answer_ends_the_order_and_the_next_run_makes_another(
    server: AcmeServer, applicant: Applicant
) -> None:
    def other_token(_method: str, path: str, _body: bytes, ask: Callable[[], Reply]) -> Reply:
        status, headers, answer = ask()
        if "/authz/" in path:
            answer = re.sub(rb'"token": "..', b'"token": "xx', answer)
        return status, headers, answer

    server.front.change = other_token
    error = refused("ca-rejected", lambda: applicant.enrol(server.url))
    assert exit_of(error.code) == 1
    server.front.change = as_it_is
    assert applicant.enrol(server.url)


def test_nonces_that_were_used_before_are_replaced(server: AcmeServer, applicant: Applicant) -> None:
    used: list[str] = []

    def replayed(_method: str, _path: str, _body: bytes, ask: Callable[[], Reply]) -> Reply:
        status, headers, answer = ask()
        if status in (200, 201) and used and len(used) % 2:
            headers["Replay-Nonce"], kept = used[0], headers.get("Replay-Nonce", "")
            used.append(kept)
        else:
            used.append(headers.get("Replay-Nonce", "none"))
        return status, headers, answer

    server.front.change = replayed
    assert applicant.enrol(server.url)


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (503, "", "ca-busy"),
        (429, "rateLimited", "ca-busy"),
        (403, "rateLimited", "ca-busy"),
        (400, "badNonce", "ca-busy"),
        (403, "unauthorized", "ca-refused"),
        (400, "rejectedIdentifier", "ca-rejected"),
        (307, "", "ca-redirected"),
    ],
)
def test_refusals_and_the_run_after(
    server: AcmeServer, applicant: Applicant, status: int, kind: str, code: str
) -> None:
    body = json.dumps({"type": f"urn:ietf:params:acme:error:{kind}", "detail": "why\x1b[31m not"}).encode()
    headers = {"Retry-After": "7", "Content-Type": "application/problem+json", "Location": "https://x.test/"}

    def refusing(_method: str, path: str, _body: bytes, ask: Callable[[], Reply]) -> Reply:
        return (status, headers, body) if path.endswith("/neworders") else ask()

    server.front.change = refusing
    error = refused(code, lambda: applicant.enrol(server.url))
    if code == "ca-busy":
        assert (error.facts["seconds"], exit_of(code)) == (7, 75)
    if code == "ca-rejected":
        assert error.facts["detail"] == "rejectedIdentifier: why\x1b[31m not"
    server.front.change = as_it_is
    assert applicant.enrol(server.url)


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"[]",
        b"<html>Welcome to the hotel</html>",
        b'{"status":"pending"}',
        b"\xff" * 2000,
        b"[" * 900_000,
    ],
    ids=["empty", "list", "portal", "little", "binary", "deep"],
)
@pytest.mark.parametrize("where", ["/directory", "/neworders", "/authz/", "/order/", "/cert/"])
def test_garbage(server: AcmeServer, applicant: Applicant, where: str, garbage: bytes) -> None:
    def garbled(_method: str, path: str, _body: bytes, ask: Callable[[], Reply]) -> Reply:
        status, headers, answer = ask()
        return status, headers, garbage if where in path else answer

    server.front.change = garbled
    assert exit_of(refused("server-answer-malformed", lambda: applicant.enrol(server.url)).code) == 1


@pytest.mark.parametrize(
    "elsewhere", [b"https://elsewhere.test/", b"http://127.0.0.1/", b"https://a@127.0.0.1:1/", b"https://[/"]
)
def test_another_server_is_never_asked(server: AcmeServer, applicant: Applicant, elsewhere: bytes) -> None:
    def leading_away(_method: str, path: str, _body: bytes, ask: Callable[[], Reply]) -> Reply:
        status, headers, answer = ask()
        if "/authz/" in path:
            answer = re.sub(rb'"url": "https://[^/]*/', b'"url": "' + elsewhere, answer)
        return status, headers, answer

    server.front.change = leading_away
    refused("server-answer-malformed", lambda: applicant.enrol(server.url))


@pytest.mark.parametrize("status", [b"processing", b"pending", b"ready"])
def test_an_order_that_never_ends_is_left_for_another_day(
    server: AcmeServer, applicant: Applicant, status: bytes
) -> None:
    def stuck(_method: str, path: str, _body: bytes, ask: Callable[[], Reply]) -> Reply:
        code, headers, answer = ask()
        if "/order/" in path:
            answer = re.sub(rb'"status": "[a-z]+"', b'"status": "%s"' % status, answer)
        return code, headers, answer

    server.front.change = stuck
    refused("ca-pending", lambda: applicant.enrol(server.url, patience=4.0))
    server.front.change = as_it_is
    applicant.enrol(server.url)
    assert finalized(server) <= 1 or status == b"ready"


def test_a_certificate_that_is_not_ours_is_refused_and_no_second_one_is_made(
    server: AcmeServer, applicant: Applicant
) -> None:
    other = pki.pem(pki.issue(server.ca, applicant.address)[0])

    def another(_method: str, path: str, _body: bytes, ask: Callable[[], Reply]) -> Reply:
        status, headers, answer = ask()
        return status, headers, other if "/cert/" in path else answer

    server.front.change = another
    error = refused("certificate-not-as-requested", lambda: applicant.enrol(server.url))
    assert (error.facts["reason"], exit_of(error.code)) == ("wrong-key", 5)
    server.front.change = as_it_is
    assert applicant.enrol(server.url)[0].public_key() == applicant.csr.public_key()
    assert finalized(server) == 1


def test_the_root_that_comes_along_must_bear_the_fingerprint(
    server: AcmeServer, applicant: Applicant
) -> None:
    applicant.roots = applicant.roots[1:]
    error = refused("ca-fingerprint-mismatch", lambda: applicant.enrol(server.url, fingerprint="ab" * 32))
    assert exit_of(error.code) == 5
    assert fingerprint(server.ca.certificate) in error.facts["found"]  # type: ignore[operator]
    with applicant.authority(server.url, fingerprint=fingerprint(server.ca.certificate)) as authority:
        assert authority.anchors() == ()
        authority.enrol(applicant.csr, NO_KEY, applicant.memory)
        assert authority.anchors() == (server.ca.certificate,)
    assert finalized(server) == 1


def test_a_root_nobody_knows_and_that_does_not_come_along(server: AcmeServer, applicant: Applicant) -> None:
    def leaf_alone(_method: str, path: str, _body: bytes, ask: Callable[[], Reply]) -> Reply:
        status, headers, answer = ask()
        end = b"-----END CERTIFICATE-----\n"
        return status, headers, answer.partition(end)[0] + end if "/cert/" in path else answer

    server.front.change = leaf_alone
    known, applicant.roots = applicant.roots, applicant.roots[1:]
    error = refused("certificate-not-as-requested", lambda: applicant.enrol(server.url))
    assert error.facts["problem"] == "untrusted-issuer"
    applicant.roots = known
    assert applicant.enrol(server.url)[-1] == server.ca.certificate
    assert finalized(server) == 1


# -- being killed


def test_cut_off_at_any_request_the_next_run_goes_on_and_one_certificate_is_made(
    server: AcmeServer, applicant: Applicant
) -> None:
    applicant.enrol(server.url)
    requests = len(server.front.seen)
    assert requests < 25
    for reached in (False, True):
        for number in range(requests):
            count = iter(range(1000))

            def cut(
                _method: str, _path: str, _body: bytes, ask: Callable[[], Reply],
                count: Iterator[int] = count, number: int = number, reached: bool = reached,
            ) -> Reply:  # fmt: skip
                now = next(count)
                if now == number and not reached:
                    raise Cut
                reply = ask()
                if now == number:
                    raise Cut
                return reply

            applicant.csr, applicant.memory = request_for(applicant.address), Kept()
            issued, sent = server.issued, len(answers(applicant))
            server.front.change = cut
            with contextlib.suppress(MedmailError):
                applicant.enrol(server.url)
            server.front.change = as_it_is
            for _ in range(3):
                try:
                    chain = applicant.enrol(server.url)
                    break
                except MedmailError as error:
                    # an order whose URL got lost may have sent its challenge beside the next one's
                    if error.facts.get("reason") != "several-challenges":
                        raise
            assert chain[0].public_key() == applicant.csr.public_key(), (number, reached)
            assert server.issued == issued + 1, (number, reached)
            assert len(answers(applicant)) == sent + 1, (number, reached)
