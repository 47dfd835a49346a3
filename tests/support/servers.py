"""A real operator on loopback: Postfix for submission, Dovecot for IMAP, from Debian's packages.

Everything lives in a folder of its own and on free ports, so that several test workers run one each.
Needs root (both servers give up privileges themselves) and the packages postfix, dovecot-imapd and
dovecot-lmtpd; where one is missing, starting fails and says so.
"""

import base64
import contextlib
import datetime as dt
import grp
import itertools
import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.support import pki

CONFIG = Path(__file__).parent.parent / "servers" / "config"
HOST = "127.0.0.1"
SIZE_LIMIT = 104_857_600
ACCESS = {
    r"/^refused/": "550 5.1.1 no such mailbox here",
    r"/^later/": "450 4.2.1 mailbox busy, try again later",
    r"/^full/": "552 5.2.2 mailbox full",
}
"""What Postfix answers to RCPT TO for addresses that begin so; all others of the domains are mailboxes,
but ``nobody…`` (550 from the table of mailboxes)."""
_QUEUE = "active bounce corrupt defer deferred flush hold incoming private saved trace"
_QUEUE_OF_POSTDROP = "maildrop pid public"


@dataclass
class MailServers:
    """A running operator. Every address logs in, alice@hosp.test with ``alice-pass``."""

    folder: Path
    ca: pki.Authority
    imap_port: int
    imaps_port: int
    pop3_port: int
    pop3s_port: int
    submission_port: int
    smtps_port: int
    token_key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    @property
    def anchors(self) -> Path:
        """The operator's CA, PEM: what ``tls-anchors`` names."""
        return self.folder / "tls" / "ca.pem"

    # -- accounts

    def password(self, address: str) -> str:
        """What ``address`` logs in with; every address of the domains is a mailbox."""
        return address.partition("@")[0] + "-pass"

    def new_mailbox(self, name: str = "user", domain: str = "hosp.test") -> str:
        """A mailbox nobody has used yet; its address."""
        return f"{name}{next(self._numbers)}@{domain}"

    def password_file(self, address: str) -> Path:
        """A file with the password of ``address``, for ``password-file``."""
        path = self.folder / "passwords" / address
        path.write_text(self.password(address) + "\n")
        path.chmod(0o600)
        return path

    def account(self, address: str, *, implicit: bool = False, **keys: object) -> dict[str, object]:
        """The table ``[accounts.NAME]`` of a configuration for ``address``; ``keys`` are added to it."""
        security = "tls" if implicit else "starttls"
        smtp = self.smtps_port if implicit else self.submission_port
        imap = self.imaps_port if implicit else self.imap_port
        return {
            "address": address,
            "smtp": {"host": HOST, "port": smtp, "security": security},
            "imap": {"host": HOST, "port": imap, "security": security},
            "password-file": str(self.password_file(address)),
            "tls-anchors": str(self.anchors),
        } | keys

    def write_config(self, home: Path, address: str, *, implicit: bool = False, **keys: object) -> Path:
        """A ``config.toml`` under ``home`` (MEDMAIL_HOME) with one account, ``work``; its path."""
        import tomli_w

        home.mkdir(parents=True, exist_ok=True)
        path = home / "config.toml"
        path.write_text(
            tomli_w.dumps({"accounts": {"work": self.account(address, implicit=implicit, **keys)}})
        )
        return path

    def token(self, address: str, lifetime: float = 300) -> str:
        """An access token (JWT, ES256) that both servers take for ``address``."""
        claims = {
            "iss": "https://idp.hosp.test",
            "azp": "default",
            "sub": address,
            "email": address,
            "iat": int(time.time()) - 1,
            "nbf": int(time.time()) - 1,
            "exp": int(time.time() + lifetime),
        }
        head = {"alg": "ES256", "typ": "JWT", "kid": "default"}
        body = ".".join(_base64url(json.dumps(part).encode()) for part in (head, claims))
        r, s = decode_dss_signature(self.token_key.sign(body.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{body}.{_base64url(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"

    def client_identity(self, address: str) -> Path:
        """A PEM file with a client certificate for ``address`` and its key (SASL EXTERNAL, Dovecot)."""
        path = self.folder / "tls" / f"client-{address}.pem"
        usage = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False)
        certificate, key = pki.issue(self.ca, None, "none", "p256", name=address, extensions=[usage])
        path.write_bytes(pki.pem(certificate, key))
        return path

    # -- what lies in a mailbox

    def maildir(self, address: str, folder: str = "INBOX") -> Path:
        """Where Dovecot keeps a folder."""
        name, _, domain = address.partition("@")
        root = self.folder / "mail" / domain / name
        return root if folder == "INBOX" else root / f".{folder}"

    def inject(self, address: str, messages: Iterable[bytes], folder: str = "INBOX") -> None:
        """Put messages straight into a folder, as a delivery would; UIDs follow the order given."""
        maildir, owner = self._made(address, folder)
        if folder != "INBOX":
            (maildir / "maildirfolder").touch()
        for message in messages:
            name = f"{int(time.time())}.M{next(self._numbers):09d}.loopback"
            temporary = maildir / "tmp" / name
            temporary.write_bytes(message.replace(b"\r\n", b"\n"))
            os.chown(temporary, owner.pw_uid, owner.pw_gid)
            temporary.rename(maildir / "new" / name)

    def _made(self, address: str, folder: str) -> tuple[Path, pwd.struct_passwd]:
        """A folder's place, made where there is none, and whose it is."""
        maildir = self.maildir(address, folder)
        for part in ("tmp", "new", "cur"):
            (maildir / part).mkdir(parents=True, exist_ok=True)
        owner = pwd.getpwnam("mail")
        for path in (maildir.parent, maildir, *maildir.iterdir()):
            if path.is_dir():
                os.chown(path, owner.pw_uid, owner.pw_gid)
        return maildir, owner

    def set_rights(self, address: str, rights: str, folder: str = "INBOX") -> None:
        """What ``address`` may do with a folder of its own: rights of RFC 4314 §2.1."""
        maildir, owner = self._made(address, folder)
        (maildir / "dovecot-acl").write_text(f"owner {rights}\n")
        os.chown(maildir / "dovecot-acl", owner.pw_uid, owner.pw_gid)

    def messages(self, address: str, folder: str = "INBOX") -> list[bytes]:
        """What lies in a folder, as Dovecot stored it."""
        return [path.read_bytes() for path in self._stored(address, folder)]

    def flags(self, address: str, folder: str = "INBOX") -> list[str]:
        """The Maildir flags of every message in a folder; empty where nobody has marked it."""
        return [path.name.partition(":2,")[2] for path in self._stored(address, folder)]

    def _stored(self, address: str, folder: str) -> list[Path]:
        """The files of a folder, as they came: Dovecot names them by seconds, then unpadded microseconds."""
        maildir = self.maildir(address, folder)
        paths = [
            p for part in ("new", "cur") if (maildir / part).is_dir() for p in (maildir / part).iterdir()
        ]
        return sorted(paths, key=lambda path: [int(n) for n in re.findall(r"\d+", path.name)[:2]])

    def wait_for(self, address: str, count: int, folder: str = "INBOX", seconds: float = 10) -> list[bytes]:
        """The messages of a folder once there are ``count``; fails where that takes too long."""
        until(
            lambda: len(self.messages(address, folder)) >= count, f"{count} messages for {address}", seconds
        )
        return self.messages(address, folder)

    def new_uidvalidity(self, address: str, folder: str = "INBOX") -> None:
        """Make Dovecot number a folder anew, as a restored server does."""
        maildir = self.maildir(address, folder)
        path = maildir / "dovecot-uidlist"
        head, *entries = path.read_text().splitlines()
        version, *rest = head.split()
        renumbered = [f"V{int(part[1:]) + 1000}" if part.startswith("V") else part for part in rest]
        path.write_text("\n".join([" ".join([version, *renumbered]), *entries]) + "\n")
        for index in maildir.glob("dovecot.index*"):
            index.unlink()

    def backup(self, address: str) -> Path:
        """A copy of a mailbox as it is now, to be given to :meth:`restore`."""
        copy = self.folder / f"backup-{address}"
        _run(["cp", "-a", str(self.maildir(address)), str(copy)])
        return copy

    def restore(self, address: str, copy: Path) -> None:
        """Put the copy in the place of the mailbox, as an operator does after a loss: numbers go back."""
        shutil.rmtree(self.maildir(address))
        _run(["cp", "-a", str(copy), str(self.maildir(address))])

    # -- what Postfix refuses

    def set_access(self, rules: Mapping[str, str] = ACCESS, *, size_limit: int = SIZE_LIMIT) -> None:
        """Answer RCPT TO by ``rules`` (regular expression to reply); take ``size_limit`` bytes at most."""
        self._postfix_file("access", "".join(f"{pattern} {reply}\n" for pattern, reply in rules.items()))
        self._postfix_file("main.cf", self._filled("main.cf.in", SIZE=size_limit))
        if (pid := self._postfix_pid()) is not None:
            os.kill(pid, signal.SIGHUP)
            # a worker serves the client at hand with its old tables; wait for one that has read the new
            until(lambda: self._offered_size() == size_limit, "Postfix to reload")

    def _offered_size(self) -> int:
        with socket.create_connection((HOST, self.submission_port), 5) as connection:
            stream = connection.makefile("rwb")
            stream.readline()
            stream.write(b"EHLO test\r\n")
            stream.flush()
            size = 0
            while line := stream.readline():
                if line[4:9] == b"SIZE ":
                    size = int(line[9:])
                if line[3:4] == b" ":
                    break
            return size

    # -- life

    def _filled(self, name: str, **more: object) -> str:
        text = (CONFIG / name).read_text()
        values = {
            "D": self.folder,
            "IMAP": self.imap_port,
            "IMAPS": self.imaps_port,
            "POP3": self.pop3_port,
            "POP3S": self.pop3s_port,
            "SUBMISSION": self.submission_port,
            "SMTPS": self.smtps_port,
        }
        for key, value in (values | more).items():
            text = text.replace(f"@{key}@", str(value))
        return text

    def _postfix_file(self, name: str, text: str) -> None:
        path = self.folder / "postfix-etc" / name
        path.write_text(text)
        # Postfix waits two seconds for configuration files that are younger than that
        os.utime(path, (time.time() - 10, time.time() - 10))

    def _postfix_pid(self) -> int | None:
        with contextlib.suppress(FileNotFoundError, ValueError):
            return int((self.folder / "postfix-queue" / "pid" / "master.pid").read_text())
        return None

    def stop_dovecot(self) -> None:
        """Take IMAP (and delivery) away."""
        _end(self.folder / "dovecot-run" / "master.pid")

    def start_dovecot(self) -> None:
        """Start IMAP and local delivery."""
        (self.folder / "dovecot-run" / "anvil-auth-penalty").unlink(missing_ok=True)

        def started() -> bool:
            try:
                _run(["dovecot", "-c", str(self.folder / "dovecot.conf")])
            except RuntimeError as error:
                # somebody's connection may have the port for its own end until it closes
                if "Address already in use" not in str(error):
                    raise
                _end(self.folder / "dovecot-run" / "master.pid")
                return False
            return True

        until(started, "a port for Dovecot", 120)
        until((self.folder / "dovecot-run" / "auth-smtp").is_socket, "Dovecot")
        _wait_for_port(self.imap_port)

    def restart_dovecot(self, extra: str = "") -> None:
        """Start IMAP anew, with settings that stand behind the others."""
        self.stop_dovecot()
        (self.folder / "dovecot.conf").write_text(self._filled("dovecot.conf.in") + extra)
        self.start_dovecot()

    def stop_postfix(self) -> None:
        """Take submission away."""
        _end(self.folder / "postfix-queue" / "pid" / "master.pid")

    def restart_postfix(self, extra: str = "") -> None:
        """Start submission anew, with settings that stand behind the others."""
        self.stop_postfix()
        self._postfix_file("main.cf", self._filled("main.cf.in", SIZE=SIZE_LIMIT) + extra)
        self.start_postfix()

    def start_postfix(self) -> None:
        """Start submission."""
        # the master alone, not `postfix start`, which spends two seconds on looking at everything
        _run(["/usr/lib/postfix/sbin/master", "-c", str(self.folder / "postfix-etc"), "-w"])
        _wait_for_port(self.submission_port)

    def stop(self) -> None:
        """Stop both and leave nothing."""
        self.stop_postfix()
        self.stop_dovecot()
        shutil.rmtree(self.folder)


def start() -> MailServers:
    """Bring up an operator on free ports."""
    for program in (
        "dovecot",
        "/usr/lib/postfix/sbin/master",
        "/usr/lib/dovecot/lmtp",
        "/usr/lib/dovecot/pop3",
    ):
        if not shutil.which(program):
            raise RuntimeError(f"{program} is missing: `make servers` installs what the tests need")
    if os.geteuid():
        raise RuntimeError("Postfix and Dovecot are started as root: run these tests as root")
    # neither pytest's own folder, which the servers' users cannot enter, nor one too long for a socket
    folder = Path(tempfile.mkdtemp(prefix="mail-", dir="/tmp"))
    folder.chmod(0o711)
    imap, imaps, pop3, pop3s, submission, smtps = _free_ports(6)
    servers = MailServers(folder, pki.make_ca("Operator Root"), imap, imaps, pop3, pop3s, submission, smtps)
    _lay_out(servers)
    servers.set_access()
    try:
        servers.start_dovecot()
        servers.start_postfix()
    except BaseException:
        servers.stop()
        raise
    return servers


def _lay_out(servers: MailServers) -> None:
    folder = servers.folder
    for name in ("tls", "mail", "dovecot-run", "passwords", "postfix-etc", "postfix-queue", "postfix-data"):
        (folder / name).mkdir()
    names: list[x509.GeneralName] = [x509.DNSName("localhost"), x509.IPAddress(ip_address(HOST))]
    extensions = [(x509.SubjectAlternativeName(names), False)]
    certificate, key = pki.issue(servers.ca, None, "server", "p256", name="localhost", extensions=extensions)
    (folder / "tls" / "ca.pem").write_bytes(pki.pem(servers.ca.certificate))
    (folder / "tls" / "server.pem").write_bytes(pki.pem(certificate))
    (folder / "tls" / "server.key").write_bytes(pki.pem(key))
    issuer = folder / "jwt" / "default" / "ES256"
    issuer.mkdir(parents=True)
    public = servers.token_key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    (issuer / "default").write_bytes(public)
    mail, postfix = pwd.getpwnam("mail"), pwd.getpwnam("postfix")
    os.chown(folder / "mail", mail.pw_uid, mail.pw_gid)
    os.chown(folder / "postfix-data", postfix.pw_uid, -1)
    postdrop = grp.getgrnam("postdrop").gr_gid
    for name in f"{_QUEUE} {_QUEUE_OF_POSTDROP}".split():
        (folder / "postfix-queue" / name).mkdir()
        group = postdrop if name in _QUEUE_OF_POSTDROP.split() else -1
        os.chown(folder / "postfix-queue" / name, 0 if name == "pid" else postfix.pw_uid, group)
    (folder / "postfix-queue" / "public").chmod(0o710)
    (folder / "postfix-queue" / "maildrop").chmod(0o730)
    for name in ("dovecot.conf", "oauth2.conf"):
        (folder / name).write_text(servers._filled(f"{name}.in"))
    for name in ("master.cf", "mailboxes"):
        servers._postfix_file(name, servers._filled(f"{name}.in"))


def until(holds: Callable[[], Any], what: str, seconds: float = 120) -> None:
    """Wait until ``holds()`` is true; fails, naming ``what``, after ``seconds``."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds} s for {what}")
        time.sleep(0.02)


def _run(command: list[str]) -> None:
    # into a file: a daemon keeps its starter's pipe open for good
    with tempfile.TemporaryFile("w+") as said:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, check=False)
        if done.returncode:
            said.seek(0)
            raise RuntimeError(f"{command[0]}: {said.read()}")


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((HOST, 0))
        return [one.getsockname()[1] for one in sockets]


def _wait_for_port(port: int) -> None:
    def listens() -> bool:
        with contextlib.suppress(OSError), socket.create_connection((HOST, port), 1):
            return True
        return False

    until(listens, f"port {port}")


def _end(pid_file: Path) -> None:
    try:
        pid = int(pid_file.read_text())
        os.kill(pid, signal.SIGTERM)
    except (FileNotFoundError, ValueError, ProcessLookupError):
        return
    until(lambda: not _alive(pid), f"process {pid} to end")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def sample(
    number: int = 0, size: int = 400, *, to: str = "bob@hosp.test", subject: str | None = None
) -> bytes:
    """A plain message of about ``size`` bytes, told apart by ``number``; CRLF line endings."""
    date = dt.datetime(2026, 11, 1, tzinfo=dt.UTC) + dt.timedelta(minutes=number)
    head = (
        f"From: Dr Alice <alice@hosp.test>\r\nTo: {to}\r\nSubject: {subject or f'Message {number}'}\r\n"
        f"Date: {date:%a, %d %b %Y %H:%M:%S +0000}\r\nMessage-ID: <sample-{number}@hosp.test>\r\n"
        "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
    ).encode()
    line = b"%06d %s\r\n" % (number, b"x" * 60)
    return head + line * max(1, (size - len(head)) // len(line))
