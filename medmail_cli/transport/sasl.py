"""Logging in to SMTP and IMAP servers: SASL (RFC 4422) without any socket.

A mechanism is chosen from those the server offers; an :class:`Exchange` then answers its challenges. Both
protocols carry the same octets, each in its own framing.
"""

import base64
import hashlib
import hmac
import json
import re
import secrets
import stringprep
import unicodedata
from collections.abc import Callable, Collection, Generator
from dataclasses import dataclass, field

from medmail_cli.errors import MedmailError
from medmail_cli.registers import MECHANISMS

FEWEST_ITERATIONS = 4096
"""RFC 7677 §4: with fewer, whoever poses as the server learns the password more easily."""
MOST_ITERATIONS = 2_000_000
"""About a second of work; a server must not be able to ask for a year of it."""
_NONCE = 18
_REPORT_LIMIT = 8192
"""Octets of an error report that are read."""


@dataclass(frozen=True)
class Credentials:
    """Who logs in, and with what; secrets are asked for only when a mechanism needs them.

    ``auth`` is the mechanism the account names, or ``auto``. ``password`` and ``token`` give a secret or
    raise ``no-secret``; None where the account has no such thing. ``certificate`` says that the TLS context
    holds a client certificate. ``refused`` is told of a refused password: it is not to be said again.
    """

    login: str
    auth: str = "auto"
    password: Callable[[], bytes] | None = field(default=None, repr=False)
    token: Callable[[], bytes] | None = field(default=None, repr=False)
    certificate: bool = False
    refused: Callable[[MedmailError], None] = field(default=lambda _error: None, repr=False)


def choose(offered: Collection[str], credentials: Credentials) -> str:
    """The mechanism to use, in upper case; ``offered`` as the server names them.

    The first of :func:`fitting`. Raises ``no-login-mechanism`` where none fits.
    """
    mechanisms = fitting(offered, credentials)
    if not mechanisms:
        known = sorted({name.upper() for name in offered})
        raise MedmailError("no-login-mechanism", offered=known, wanted=_wanted(credentials))
    return mechanisms[0]


def fitting(offered: Collection[str], credentials: Credentials) -> list[str]:
    """The mechanisms on offer that an account can use, in upper case, the strongest first.

    By itself EXTERNAL with a client certificate, OAUTHBEARER or XOAUTH2 with a token, else SCRAM-SHA-256,
    PLAIN, LOGIN.
    """
    known = {name.upper() for name in offered}
    return [name for name in _wanted(credentials) if name in known]


def _wanted(credentials: Credentials) -> tuple[str, ...]:
    if credentials.auth != "auto":
        return (credentials.auth.upper(),)
    needs = "certificate" if credentials.certificate else "token" if credentials.token else "password"
    known = [(mechanism.rank, name) for name, mechanism in MECHANISMS.items() if mechanism.needs == needs]
    return tuple(name.upper() for _place, name in sorted(known))


class Exchange:
    """One exchange of a mechanism: ``initial`` is what the client says first, None where the server begins.

    ``report`` is what a server said in a challenge about a refusal (OAuth's JSON, SCRAM's ``e=``), in words
    of its own. Raises ``no-secret`` on making it, if the secret is missing.
    """

    def __init__(self, mechanism: str, credentials: Credentials, host: str = "", port: int = 0) -> None:
        self.mechanism = mechanism
        self.report = ""
        self._steps = _steps(mechanism, credentials, host, port)
        self.initial = next(self._steps)

    def respond(self, challenge: bytes) -> bytes:
        """The answer to a challenge, both decoded.

        Raises ``server-answer-malformed`` for a challenge that is out of place or wrong, and
        ``server-untrusted`` where the server cannot prove that it knows the password (SCRAM).
        """
        if self.mechanism in ("OAUTHBEARER", "XOAUTH2"):
            self.report = bearer_report(challenge)
        elif self.mechanism == "SCRAM-SHA-256" and challenge.startswith(b"e="):
            self.report = challenge[2:102].decode("utf-8", "replace")
        try:
            answer = self._steps.send(challenge)
        except StopIteration:
            # after the last word of the mechanism only an error report can follow (RFC 7628 §3.2.3)
            return b""
        return answer or b""

    def finish(self) -> None:
        """The server says we are in: was all said that had to be? Raises ``server-untrusted`` (SCRAM)."""
        try:
            self._steps.throw(_Accepted())
        except (_Accepted, StopIteration):
            return


class _Accepted(Exception):  # noqa: N818 - news, not a fault
    """The server has let us in."""


_Steps = Generator[bytes | None, bytes, None]


def _steps(mechanism: str, credentials: Credentials, host: str, port: int) -> _Steps:
    login = credentials.login
    if mechanism == "EXTERNAL":
        # who we are is in the certificate (RFC 4422 appendix A)
        return _once(b"")
    if mechanism in ("OAUTHBEARER", "XOAUTH2"):
        token = _secret(credentials.token, "token").decode("utf-8", "replace")
        if mechanism == "XOAUTH2":
            return _bearer(f"user={login}\x01auth=Bearer {token}\x01\x01", b"")
        name = login.replace("=", "=3D").replace(",", "=2C")
        return _bearer(f"n,a={name},\x01host={host}\x01port={port}\x01auth=Bearer {token}\x01\x01", b"\x01")
    password = _secret(credentials.password, "password")
    if mechanism == "PLAIN":
        return _once(b"\0" + login.encode() + b"\0" + password)
    if mechanism == "LOGIN":
        return _login(login.encode(), password)
    if mechanism == "SCRAM-SHA-256":
        return _scram(login, password, secrets.token_urlsafe(_NONCE), host)
    raise MedmailError("no-login-mechanism", offered=[], wanted=(mechanism,))


def _secret(source: Callable[[], bytes] | None, name: str) -> bytes:
    if source is None:
        raise MedmailError("no-secret", secret=name, variable=f"MEDMAIL_{name.upper()}_FILE")
    return source()


def _once(said: bytes) -> _Steps:
    yield said


def _login(login: bytes, password: bytes) -> _Steps:
    yield None
    yield login
    yield password


def _bearer(said: str, after_error: bytes) -> _Steps:
    """RFC 7628 §3.1, and Google's XOAUTH2: a challenge is an error report that wants an empty word back."""
    yield said.encode()
    yield after_error


def bearer_report(challenge: bytes) -> str:
    """What an OAuth error report (RFC 7628 §3.2.2) says, as ``name: value``; its text if it is no JSON."""
    text = challenge[:_REPORT_LIMIT].decode("utf-8", "replace").strip()
    try:
        report = json.loads(text)
    except (ValueError, RecursionError):
        return text[:200]
    pairs = report.items() if isinstance(report, dict) else ()
    said = [f"{name}: {value}" for name, value in pairs if isinstance(value, str | int) and value != ""]
    return "; ".join(said)[:400]


def _scram(login: str, password: bytes, nonce: str, host: str) -> _Steps:
    """RFC 5802 §3 with SHA-256 (RFC 7677), no channel binding."""
    name = saslprep(login).replace("=", "=3D").replace(",", "=2C")
    first = f"n={name},r={nonce}"
    challenge = yield f"n,,{first}".encode()
    try:
        whole, salt, iterations = _server_first(challenge, nonce)
    except ValueError:
        raise MedmailError("server-answer-malformed", host=host, detail="SCRAM-SHA-256") from None
    salted = hashlib.pbkdf2_hmac("sha256", _prepared(password), salt, iterations)
    final = f"c=biws,r={whole}"
    said = b",".join((first.encode(), challenge, final.encode()))
    client_key = _hmac(salted, b"Client Key")
    signature = _hmac(hashlib.sha256(client_key).digest(), said)
    proof = base64.b64encode(bytes(a ^ b for a, b in zip(client_key, signature, strict=True))).decode()
    expected = b"v=" + base64.b64encode(_hmac(_hmac(salted, b"Server Key"), said))
    try:
        answer = yield f"{final},p={proof}".encode()
    except _Accepted:
        raise _impostor(host) from None
    if answer.startswith(b"e="):
        # refused; the protocol's own reply follows
        yield b""
        return
    if not hmac.compare_digest(answer.split(b",")[0], expected):
        raise _impostor(host)
    yield b""


def _impostor(host: str) -> MedmailError:
    return MedmailError("server-untrusted", host=host, detail="SCRAM-SHA-256")


def _server_first(challenge: bytes, nonce: str) -> tuple[str, bytes, int]:
    match = re.fullmatch(
        rb"r=([\x21-\x2b\x2d-\x7e]{1,200}),s=([A-Za-z0-9+/=]{1,200}),i=([1-9][0-9]{0,8})(?:,[^m].*)?",
        challenge,
    )
    if not match:
        raise ValueError(challenge)
    whole, iterations = match[1].decode(), int(match[3])
    if not whole.startswith(nonce) or len(whole) == len(nonce):
        raise ValueError(whole)
    if not FEWEST_ITERATIONS <= iterations <= MOST_ITERATIONS:
        raise ValueError(iterations)
    return whole, base64.b64decode(match[2], validate=True), iterations


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")


def _prepared(password: bytes) -> bytes:
    try:
        return saslprep(password.decode()).encode()
    except UnicodeDecodeError:
        return password


def saslprep(text: str) -> str:
    """RFC 4013: spaces mapped, what shows nothing removed, form KC. What it prohibits is left as it is."""
    mapped = "".join(
        " " if stringprep.in_table_c12(char) else char for char in text if not stringprep.in_table_b1(char)
    )
    return unicodedata.normalize("NFKC", mapped)
