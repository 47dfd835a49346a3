"""Logging in to servers that know little, say odd things or refuse: in by whatever there is, else why not."""

import base64
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain, repeat
from pathlib import Path

import pytest

from medmail_cli.config import Server
from medmail_cli.errors import MedmailError, exit_of
from medmail_cli.transport import tls
from medmail_cli.transport.imap import Imap
from medmail_cli.transport.sasl import Credentials
from tests.support.cli import medmail
from tests.support.imapserver import Act, ImapServer, Peer
from tests.support.listening import HOST
from tests.support.servers import sample

PASSWORD = Credentials("bob", password=lambda: b"secret")


def tokens(*values: bytes, auth: str = "auto") -> Credentials:
    given = chain(values, repeat(values[-1]))
    return Credentials("bob", auth, token=lambda: next(given))


@contextmanager
def session(server: ImapServer) -> Iterator[Imap]:
    with (
        server.running(),
        Imap(Server(HOST, server.port, "tls"), tls.context(server.anchors), timeout=20) as one,
    ):
        yield one


def words(server: ImapServer) -> list[bytes]:
    """The commands a server was given, without their arguments."""
    return [line.split()[1].upper() for line in server.commands if len(line.split()) > 1]


def refusal(server: ImapServer, credentials: Credentials) -> MedmailError:
    with session(server) as one, pytest.raises(MedmailError) as caught:
        one.login(credentials)
    return caught.value


def asking(end: bytes, *, before: bytes = b"") -> Act:
    """Asks for what the client has to say, then says ``before`` and ends with ``end``."""

    def act(peer: Peer, tag: bytes, rest: bytes) -> None:
        if b" " not in rest:
            peer.send(b"+ \r\n")
            peer.line()
        peer.send(before + end.replace(b"TAG", tag))

    return act


@pytest.mark.parametrize(
    ("login", "password", "sent"),
    [
        ("bob", b"secret", b'"bob" "secret"'),
        ('b"o\\b', b'pass "word"\\', b'"b\\"o\\\\b" "pass \\"word\\"\\\\"'),
        ("bob", "clé".encode(), b'"bob" {4}'),
        ("bôb", "clé".encode(), b"{4}"),
    ],
)
def test_login_command_where_there_is_no_mechanism(
    tmp_path: Path, login: str, password: bytes, sent: bytes
) -> None:
    got = []

    def act(peer: Peer, tag: bytes, rest: bytes) -> None:
        got.append(rest)
        while rest.endswith(b"}"):
            peer.send(b"+ go on\r\n")
            rest = peer.line()
            got.append(rest)
        peer.send(tag + b" OK in\r\n")

    server = ImapServer(tmp_path, capabilities=b"IMAP4rev1 IDLE", acts={"LOGIN": act})
    with session(server) as one:
        one.login(Credentials(login, password=lambda: password))
    assert got[0] == sent
    assert got[1:] == [
        *([login.encode() + b" {4}"] if not login.isascii() else []),
        *([password] if not password.isascii() else []),
    ]


def test_no_password_where_the_server_says_it_takes_none(tmp_path: Path) -> None:
    server = ImapServer(tmp_path, capabilities=b"IMAP4rev1 LOGINDISABLED")
    assert refusal(server, PASSWORD).code == "no-login-mechanism"
    assert set(words(server)) <= {b"CAPABILITY", b"LOGOUT"}


def test_an_account_of_another_kind_says_no_password(tmp_path: Path) -> None:
    server = ImapServer(tmp_path, capabilities=b"IMAP4rev1")
    scram = Credentials("bob", "scram-sha-256", password=lambda: b"secret")
    assert refusal(server, scram).code == "no-login-mechanism"
    server = ImapServer(tmp_path, capabilities=b"IMAP4rev1")
    assert refusal(server, tokens(b"t")).code == "no-login-mechanism"


def test_auth_login_alone(tmp_path: Path) -> None:
    def act(peer: Peer, tag: bytes, rest: bytes) -> None:
        assert rest.upper() == b"LOGIN"
        for asked, said in ((b"Username:", b"bob"), (b"Password:", b"secret")):
            peer.send(b"+ " + base64.b64encode(asked) + b"\r\n")
            assert base64.b64decode(peer.line()) == said
        peer.send(tag + b" OK in\r\n")

    server = ImapServer(tmp_path, capabilities=b"IMAP4rev1 AUTH=LOGIN", acts={"AUTHENTICATE": act})
    with session(server) as one:
        assert one.login(PASSWORD) == "LOGIN"


@pytest.mark.parametrize(
    "refused",
    [b"TAG BAD unknown command\r\n", b"TAG BAD\r\n", b"TAG NO Unsupported authentication mechanism\r\n"],
)
def test_a_mechanism_that_is_offered_and_not_there(tmp_path: Path, refused: bytes) -> None:
    server = ImapServer(tmp_path, answers={"AUTHENTICATE": refused})
    with session(server) as one:
        one.login(PASSWORD)
    assert words(server)[:3] == [b"CAPABILITY", b"AUTHENTICATE", b"LOGIN"]
    # nothing of the password went along with what was not understood
    assert server.commands[1].split()[1:] == [b"AUTHENTICATE", b"PLAIN"]


def test_a_server_that_cannot_take_the_first_word_with_the_command(tmp_path: Path) -> None:
    def act(peer: Peer, tag: bytes, rest: bytes) -> None:
        if b" " in rest:
            peer.send(tag + b" BAD too many arguments\r\n")
        else:
            asking(b"TAG OK in\r\n")(peer, tag, rest)

    offered = b"IMAP4rev1 SASL-IR AUTH=PLAIN AUTH=XOAUTH2"
    for credentials in (PASSWORD, tokens(b"t")):
        with session(ImapServer(tmp_path, capabilities=offered, acts={"AUTHENTICATE": act})) as one:
            one.login(credentials)


@pytest.mark.parametrize("size", [10, 3000])
def test_a_server_that_asks_for_what_went_along(tmp_path: Path, size: int) -> None:
    said = []

    def act(peer: Peer, tag: bytes, rest: bytes) -> None:
        said.append(len(rest) < 1000)
        peer.send(b"+ \r\n")
        said.append(base64.b64decode(peer.line()).count(b"t") >= size)
        peer.send(tag + b" OK in\r\n")

    offered = b"IMAP4rev1 SASL-IR AUTH=XOAUTH2"
    with session(ImapServer(tmp_path, capabilities=offered, acts={"AUTHENTICATE": act})) as one:
        one.login(tokens(b"t" * size))
    assert said == [True, True]


@pytest.mark.parametrize(
    ("end", "code", "shown"),
    [
        (b"NO [AUTHENTICATIONFAILED] wrong\r\n", "login-refused", "wrong"),
        (b"NO LOGIN failed.\r\n", "login-refused", "LOGIN failed."),
        (b"NO\r\n", "login-refused", "NO"),
        (b"BAD invalid credentials\r\n", "login-refused", "invalid credentials"),
        (b"NO [AUTHORIZATIONFAILED] not for you\r\n", "login-refused", "not for you"),
        (b"NO [EXPIRED] change it\r\n", "login-expired", "change it"),
        (b"NO [PRIVACYREQUIRED] more of it\r\n", "login-refused", "[PRIVACYREQUIRED] more of it"),
        (b"NO [CONTACTADMIN] call 1234\r\n", "login-refused", "[CONTACTADMIN] call 1234"),
        (b"NO [AUTHENTICATIONFAILED] the server is busy, too\r\n", "login-refused", "busy"),
        (b"NO [UNAVAILABLE] Temporary authentication failure.\r\n", "server-busy", "Temporary"),
        (b"NO Temporary authentication failure.\r\n", "server-busy", "Temporary"),
        (b"NO [INUSE] other session\r\n", "server-busy", "other session"),
        (b"NO [LIMIT] Maximum number of connections from user+IP exceeded\r\n", "server-busy", "Maximum"),
        (b"NO [SERVERBUG] oops\r\n", "server-busy", "oops"),
        (b"NO [ALERT] Too many simultaneous connections. (Failure)\r\n", "server-busy", "Too many"),
        (b"NO Server Unavailable. 15\r\n", "server-busy", "Server Unavailable. 15"),
        (b"BAD User is authenticated but not connected.\r\n", "server-busy", "not connected"),
    ],
)
def test_what_a_refused_login_comes_to(tmp_path: Path, end: bytes, code: str, shown: str) -> None:
    for before in (b"", b"* BYE goodbye\r\n"):
        server = ImapServer(tmp_path, acts={"AUTHENTICATE": asking(b"TAG " + end, before=before)})
        error = refusal(server, PASSWORD)
        assert (error.code, exit_of(error.code)) == (code, 75 if code == "server-busy" else 4)
        assert shown in str(error.facts["reply"])
        # said once, whatever the answer
        assert words(server).count(b"AUTHENTICATE") == 1
        assert b"LOGIN" not in words(server)


@pytest.mark.parametrize(
    ("goodbye", "code"),
    [
        (b"* BYE Too many authentication failures\r\n", "login-refused"),
        (b"* BYE [ALERT] wrong password\r\n", "login-refused"),
        (b"* BYE server is shutting down\r\n", "server-busy"),
        (b"* BYE\r\n", "server-busy"),
    ],
)
def test_a_goodbye_instead_of_an_answer(tmp_path: Path, goodbye: bytes, code: str) -> None:
    def act(peer: Peer, tag: bytes, rest: bytes) -> None:
        asking(b"", before=goodbye)(peer, tag, rest)
        peer.cut()

    assert refusal(ImapServer(tmp_path, acts={"AUTHENTICATE": act}), PASSWORD).code == code


REPORT = b'{"status":"400","schemes":"Bearer","scope":"https://mail.hosp.test/\\u001b[31m"}'


def reporting(report: bytes, end: bytes) -> Act:
    """Answers a token with an error report (RFC 7628 §3.2.2) and ends with ``end``."""

    def act(peer: Peer, tag: bytes, rest: bytes) -> None:
        if b" " not in rest:
            peer.send(b"+ \r\n")
            peer.line()
        peer.send(b"+ " + base64.b64encode(report) + b"\r\n")
        assert peer.line() in (b"", b"AQ==")
        peer.send(end.replace(b"TAG", tag))

    return act


@pytest.mark.parametrize("mechanism", ["XOAUTH2", "OAUTHBEARER"])
@pytest.mark.parametrize("end", [b"TAG NO no\r\n", b"TAG BAD Invalid SASL argument.\r\n"])
def test_why_a_token_was_refused_is_told(tmp_path: Path, mechanism: str, end: bytes) -> None:
    offered = b"IMAP4rev1 SASL-IR AUTH=" + mechanism.encode()
    server = ImapServer(tmp_path, capabilities=offered, acts={"AUTHENTICATE": reporting(REPORT, end)})
    with server.running():
        (tmp_path / "token").write_text("sentinel-token\n")
        home = server.write_config(tmp_path / "home", **{"token-file": str(tmp_path / "token")})
        done = medmail(home, "fetch")
    assert done.exit == 4
    assert "status: 400" in done.stderr
    assert "https://mail.hosp.test/" in done.stderr
    assert "\x1b" not in done.stderr
    assert "sentinel" not in done.stdout + done.stderr


@pytest.mark.parametrize("report", [b"{", b"[" * 50_000, b'["x"]', b'{"status": {"a": 1}}', b"\xff\xfe"])
def test_a_report_that_is_none_is_a_refusal_all_the_same(tmp_path: Path, report: bytes) -> None:
    offered = b"IMAP4rev1 SASL-IR AUTH=XOAUTH2"
    server = ImapServer(
        tmp_path, capabilities=offered, acts={"AUTHENTICATE": reporting(report, b"TAG NO no\r\n")}
    )
    assert refusal(server, tokens(b"t")).code == "login-refused"


def first_refused(taken: list[bytes]) -> Callable[[Peer, bytes, bytes], None]:
    """Refuses the first token and hangs up; takes the second."""

    def act(peer: Peer, tag: bytes, rest: bytes) -> None:
        _, _, word = rest.partition(b" ")
        if not word:
            peer.send(b"+ \r\n")
            word = peer.line()
        taken.append(base64.b64decode(word).partition(b"Bearer ")[2].strip(b"\x01"))
        if len(taken) == 1:
            peer.send(b"* BYE\r\n" + tag + b" NO [AUTHENTICATIONFAILED] old\r\n")
            peer.cut()
        peer.send(tag + b" OK in\r\n")

    return act


def test_a_refused_token_is_fetched_anew_once_and_silently(tmp_path: Path) -> None:
    taken: list[bytes] = []
    server = ImapServer(
        tmp_path,
        [sample(1)],
        capabilities=b"IMAP4rev1 SASL-IR AUTH=XOAUTH2",
        acts={"AUTHENTICATE": first_refused(taken)},
    )
    with server.running():
        command = tmp_path / "token.sh"
        command.write_text(f'#!/bin/sh\necho x >> "{tmp_path}/count"; wc -l < "{tmp_path}/count"\n')
        command.chmod(0o755)
        home = server.write_config(tmp_path / "home", **{"token-command": str(command)})
        done = medmail(home, "fetch", "--json")
    assert done.exit == 0, done.stdout
    assert [one["type"] for one in done.objects if one["type"] != "progress"] == [
        "message",
        "folder",
        "result",
    ]
    assert taken == [b"1", b"2"]


def test_already_known_by_the_certificate(tmp_path: Path) -> None:
    server = ImapServer(tmp_path, [sample(1)], answers={"greeting": b"* PREAUTH as bob\r\n"})
    with session(server) as one:
        assert one.login(PASSWORD) == "PREAUTH"
        assert one.open("INBOX").messages == 1
    assert b"AUTHENTICATE" not in words(server)


def test_already_known_before_there_is_tls(tmp_path: Path) -> None:
    import socket
    import threading

    with socket.create_server((HOST, 0)) as listener:

        def serve() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.sendall(b"* PREAUTH as somebody\r\n")
                peer.recv(100)

        thread = threading.Thread(target=serve)
        thread.start()
        server = ImapServer(tmp_path)
        with server.running(), pytest.raises(MedmailError) as caught:
            Imap(Server(HOST, listener.getsockname()[1], "starttls"), tls.context(server.anchors))
        thread.join(20)
    assert caught.value.code == "no-starttls"


@pytest.mark.parametrize(
    ("folder", "reply", "code", "shown"),
    [
        ("INBOX", b"NO Server Unavailable. 15", "server-busy", "Server Unavailable. 15"),
        ("INBOX", b"NO SELECT Unsafe Login. Please contact kefu", "server-busy", "Unsafe Login"),
        ("INBOX", b"NO [NOPERM] Permission denied", "server-refused", "Permission denied"),
        ("INBOX", b"NO [NONEXISTENT] no", "not-found", "INBOX"),
        ("Listed", b"NO Permission denied", "server-refused", "Permission denied"),
        ("Listed", b"NO [THROTTLED] slow down", "server-busy", "slow down"),
        ("Listed", b"NO [NONEXISTENT] gone since", "not-found", "Listed"),
        ("Other", b"NO Unknown Mailbox", "not-found", "Other"),
        ("Other", b"NO [OVERQUOTA] bandwidth", "server-busy", "bandwidth"),
        ("Other", b"NO [ALERT] Account exceeded command or bandwidth limits.", "server-busy", "bandwidth"),
    ],
)
def test_why_a_folder_is_refused_is_told(
    tmp_path: Path, folder: str, reply: bytes, code: str, shown: str
) -> None:
    listed = b'* LIST () "/" INBOX\r\n* LIST () "/" Listed\r\nTAG OK\r\n'
    answers = {"EXAMINE": b"TAG " + reply + b"\r\n", "LIST": listed}
    with session(ImapServer(tmp_path, answers=answers)) as one:
        one.login(PASSWORD)
        with pytest.raises(MedmailError) as caught:
            one.open(folder)
    assert caught.value.code == code
    assert shown in str(caught.value)


REFUSING = {"AUTHENTICATE": asking(b"TAG NO [AUTHENTICATIONFAILED] wrong\r\n")}


def test_no_other_server_is_given_a_password_that_was_refused(tmp_path: Path) -> None:
    from tests.support.smtpserver import running

    with ImapServer(tmp_path / "imap", acts=REFUSING).running() as imap, running(tmp_path) as smtp:
        (tmp_path / "both.pem").write_bytes(imap.anchors.read_bytes() + smtp.anchors.read_bytes())
        server = {"host": HOST, "port": smtp.port, "security": "tls"}
        home = imap.write_config(
            tmp_path / "home", **{"smtp": server, "tls-anchors": str(tmp_path / "both.pem")}
        )
        done = medmail(home, "server", "check", "--json")
    assert done.exit == 4
    assert [one["error"] for one in done.objects[:2]] == ["login-refused", "login-refused"]
    assert words(imap).count(b"AUTHENTICATE") == 1
    assert not [line for line in smtp.commands if line.startswith("AUTH")]


def test_copies_do_not_wear_out_a_refused_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import hashlib

    from medmail_cli.session import Options, Session
    from medmail_cli.store.queue.outbox import QueuedMessage
    from medmail_cli.wiring.sending import delivery_context
    from medmail_cli.workflows.mail import submission_session

    monkeypatch.setattr(submission_session, "COPIES_AT_ONCE", 1)
    with ImapServer(tmp_path / "imap", acts=REFUSING).running() as imap:
        home = imap.write_config(tmp_path / "home", **{"sent-folder": "Sent"})
        one = Session(Options(home=home, no_input=True))
        queued = [
            QueuedMessage(
                hashlib.sha256(raw).hexdigest(), raw, "work", "bob@hosp.test", ("a@hosp.test",), "<1@x>"
            )
            for raw in (sample(1), sample(2), sample(3))
        ]
        waiting = one.outbox.enqueue(queued, one.now(), claim=True)
        notes = list(submission_session.keep(delivery_context(one), one.account(), waiting))
        one.close()
    assert [note.facts["error"] for note in notes] == ["login-refused"] * 3
    assert words(imap).count(b"AUTHENTICATE") == 1
