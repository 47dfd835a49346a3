"""One ACME server: every request signed with the account's key and a fresh nonce (RFC 8555 §6).

Only the server that the user named is spoken to: URLs that lead to another host, or anywhere without TLS,
are refused, and redirects are not followed, as they would move the trust given to one server to another.
"""

import base64
import binascii
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import CREATED, OK
from json import dumps
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from medmail_cli.errors import MedmailError
from medmail_cli.pki.issuance import acme, jose
from medmail_cli.transport.exchange import Answer, Https, refusal

if TYPE_CHECKING:
    from pathlib import Path

    from medmail_cli.model import PrivateKey

T = TypeVar("T")

MOST_NONCES = 8
"""How often a request is signed again because the server does not know its nonce (§6.5)."""
SHORTEST_PAUSE, LONGEST_PAUSE = 0.5, 20.0
"""A server's Retry-After is heeded, but it is asked again at the latest after so many seconds."""
_NONCE = re.compile(r"[A-Za-z0-9_-]{1,200}\Z")
_BUSY = {"rateLimited", "serverInternal", "badNonce"}
_REFUSED = {"unauthorized", "accountDoesNotExist", "externalAccountRequired", "userActionRequired"}


@dataclass(frozen=True)
class ExternalAccount:
    """An account that the authority gave out on another way (§7.3.4); ``secret`` gives its MAC key."""

    kid: str
    secret: Callable[[], bytes]


class AcmeServer:
    """The server whose directory is at ``url``; ``key`` is the account's. Holds one connection."""

    def __init__(
        self, url: str, key: "PrivateKey", *, tls_anchors: "Path | None" = None, timeout: float = 30.0
    ) -> None:
        """Raises ``insecure-url`` unless ``url`` is https."""
        self.url = endpoint(url)
        self.account = ""
        self._key = key
        self._server = Https(self.url, anchors=tls_anchors, timeout=timeout)
        self._directory: acme.Directory | None = None
        self._nonce = ""

    def close(self) -> None:
        """End the connection."""
        self._server.close()

    @property
    def directory(self) -> acme.Directory:
        """Where to ask for what, fetched once."""
        if self._directory is None:
            answer = self._server.ask("GET", self._target(self.url))
            self._directory = self.read(acme.directory, self._successful(answer))
        return self._directory

    def sign_up(
        self,
        agree: Callable[[str], bool],
        external: ExternalAccount | None = None,
        contact: tuple[str, ...] = (),
    ) -> None:
        """Find the key's account, or make it (§7.3, §7.3.1); once.

        ``agree`` is asked about the terms of service where there are some and the account is new. Raises
        ``ca-refused`` where they are declined or the authority wants an external account.
        """
        if self.account:
            return
        where = self.directory
        try:
            answer = self.post(where.new_account, {"onlyReturnExisting": True})
        except MedmailError as error:
            if error.facts.get("problem") != "accountDoesNotExist":
                raise
            if where.external_account_required and external is None:
                raise self.error("ca-refused", status=403, detail="externalAccountRequired") from None
            if where.terms and not agree(where.terms):
                detail = f"userActionRequired: {where.terms}"
                raise self.error("ca-refused", status=403, detail=detail) from None
            wish: dict[str, Any] = {"contact": list(contact)} if contact else {}
            if where.terms:
                wish["termsOfServiceAgreed"] = True
            if external is not None:
                wish["externalAccountBinding"] = self._bound(external)
            answer = self.post(where.new_account, wish)
        self.account = self.location(answer)

    def _bound(self, external: ExternalAccount) -> Any:
        secret = external.secret()
        try:
            mac_key = base64.b64decode(secret.strip().rstrip(b"=") + b"=" * 3, b"-_")
        except (binascii.Error, ValueError):
            mac_key = b""
        if not mac_key:
            facts = {"secret": "password", "path": external.kid, "detail": "base64url"}
            raise MedmailError("secret-unreadable", **facts)
        header = {"kid": external.kid, "url": self.directory.new_account}
        return acme.document(jose.authenticate(mac_key, header, _json(jose.jwk(self._key))))

    # -- requests

    def post(self, url: str, wish: Mapping[str, Any] | None = None) -> Answer:
        """A signed request; without ``wish`` it only asks for what is there (POST-as-GET, §6.3).

        Raises ``ca-busy``, ``ca-refused``, ``ca-rejected`` and ``ca-redirected``, with the kind of the
        server's problem as the fact ``problem``; ``server-…`` for what cannot be understood or reached.
        """
        target = self._target(url)
        payload = b"" if wish is None else _json(wish)
        for _ in range(MOST_NONCES):
            header: dict[str, Any] = {"nonce": self._fresh_nonce(), "url": url}
            # who signs: the account, or the key while there is no account yet (§6.2)
            header |= {"kid": self.account} if self.account else {"jwk": jose.jwk(self._key)}
            body = jose.sign(self._key, header, payload)
            answer = self._server.ask("POST", target, body, {"Content-Type": "application/jose+json"})
            self._keep_nonce(answer)
            if answer.status in (OK, CREATED):
                return answer
            problem = _problem(answer)
            if problem.type != "badNonce":
                break
        raise self._refusal(answer, problem)

    def read(self, reader: Callable[[bytes], T], answer: Answer) -> T:
        """What an answer says. Raises ``server-answer-malformed``."""
        try:
            return reader(answer.body)
        except MedmailError as error:
            raise self.malformed(str(error.facts.get("what", ""))) from None

    def location(self, answer: Answer) -> str:
        """The URL of what was made."""
        url = answer.header("Location")
        self._target(url)
        return url

    def pause(self, answer: Answer, give_up: float) -> None:
        """Wait as long as the server wishes, within bounds (§7.5.1).

        Raises ``ca-pending`` where it would be longer than until ``give_up`` on the monotonic clock.
        """
        seconds = min(max(answer.retry_after or 1.0, SHORTEST_PAUSE), LONGEST_PAUSE)
        if time.monotonic() + seconds > give_up:
            raise self.error("ca-pending", seconds=round(answer.retry_after or 0))
        time.sleep(seconds)

    def error(self, code: str, **facts: object) -> MedmailError:
        """An error that names this authority."""
        return MedmailError(code, url=self.url, **facts)

    def malformed(self, detail: str) -> MedmailError:
        """``server-answer-malformed``."""
        return MedmailError("server-answer-malformed", host=self._server.name, detail=detail)

    # -- how

    def _target(self, url: str) -> str:
        """The path and query of a URL on this server. Raises ``server-answer-malformed``."""
        try:
            parts = urlsplit(url)
            port = parts.port or 443
        except ValueError:
            raise self.malformed("url") from None
        if not url.isascii() or not url.isprintable() or " " in url:
            raise self.malformed("url")
        if (parts.scheme, parts.hostname, port) != ("https", self._server.host, self._server.port):
            raise self.malformed("other-host")
        return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")

    def _fresh_nonce(self) -> str:
        """A nonce nobody has used: the latest answer's, else a new one (§7.2)."""
        if not self._nonce:
            answer = self._server.ask("HEAD", self._target(self.directory.new_nonce))
            self._keep_nonce(self._successful(answer))
            if not self._nonce:
                raise self.malformed("nonce")
        nonce, self._nonce = self._nonce, ""
        return nonce

    def _keep_nonce(self, answer: Answer) -> None:
        nonce = answer.header("Replay-Nonce")
        self._nonce = nonce if _NONCE.match(nonce) else ""

    def _successful(self, answer: Answer) -> Answer:
        if answer.status in (200, 204):
            return answer
        raise self._refusal(answer, _problem(answer))

    def _refusal(self, answer: Answer, problem: acme.Problem) -> MedmailError:
        plain = refusal(answer, self.url)
        code = plain.code
        if problem.type in _BUSY:
            code = "ca-busy"
        elif problem.type in _REFUSED:
            code = "ca-refused"
        facts = {name: value for name, value in plain.facts.items() if name != "url"}
        if code == "ca-busy":
            facts["seconds"] = round(answer.retry_after or 0)
        return self.error(code, **facts | {"detail": str(problem) or answer.text, "problem": problem.type})


def endpoint(url: str) -> str:
    """The directory's URL as it is used. Raises ``insecure-url``."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme == "https" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or parts.fragment or parts.username:
        raise MedmailError("insecure-url", url=url)
    return url


def _problem(answer: Answer) -> acme.Problem:
    # some servers call it application/json, or nothing at all
    return acme.problem(answer.body)


def _json(value: Mapping[str, Any]) -> bytes:
    return dumps(value, separators=(",", ":")).encode()
