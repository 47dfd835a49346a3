"""A connection to a submission server: reached, secured, greeted, logged in (RFC 5321 §3.1, 3207, 4954)."""

import asyncio
import base64
import binascii
import contextlib
import socket
import ssl
from dataclasses import replace
from typing import TYPE_CHECKING

from medmail_cli.errors import MedmailError
from medmail_cli.transport import proxy, reaching, sasl, tls
from medmail_cli.transport.smtpwire import COMMAND_TIMEOUT, Lost, Offer, Reply, Wire

if TYPE_CHECKING:
    from medmail_cli.config import Server
    from medmail_cli.transport.sasl import Credentials

CONNECT_TIMEOUT = 30.0
"""Seconds in which somebody must answer the call; what they say may take :data:`COMMAND_TIMEOUT`."""
COMMAND_LINE = 512
"""Octets of a command, its end included (RFC 5321 §4.5.3.1.4), so of what goes along with AUTH (4954 §4)."""
OWN_NAME = "[127.0.0.1]"
"""What we call ourselves in EHLO: an address literal that tells nothing (RFC 5321 §4.1.4)."""
_CHALLENGES = 8
"""More than any mechanism has."""
CREDENTIALS_INVALID = "5.7.8 "
"""The enhanced status code (RFC 4954 §6) that settles it, whatever else is said: "(reason unavailable)"."""
PASSWORD_TRANSITION = 432
"""The one temporary reply that asks for something to be done (RFC 4954 §6)."""


async def connect(
    server: "Server", context: ssl.SSLContext, credentials: "Credentials", via: str | None = None
) -> tuple[Wire, Offer]:
    """A connection, verified and logged in, and what the server offers on it; ``via`` is a proxy's URL.

    A token that is refused is fetched anew once, for a connection of its own. Raises what
    :func:`.tls.explained` and :func:`.reaching.check_other_way` name, ``server-busy`` (it says: later),
    ``server-refused``, ``no-starttls``, ``no-login-mechanism``, ``login-refused`` and ``login-expired``.
    """
    given: list[bytes] = []

    def token() -> bytes:
        assert credentials.token is not None  # noqa: S101 - see below
        given.append(credentials.token())
        return given[-1]

    noted = credentials if credentials.token is None else replace(credentials, token=token)
    try:
        return await _connect(server, context, noted, via)
    except MedmailError as error:
        if not given or credentials.token is None or error.code not in ("login-refused", "login-expired"):
            raise
        fresh = await asyncio.to_thread(credentials.token)
        if fresh == given[0]:
            # the same again would be refused again, and counted
            raise
    return await _connect(server, context, replace(credentials, token=lambda: fresh), via)


async def _connect(
    server: "Server", context: ssl.SSLContext, credentials: "Credentials", via: str | None
) -> tuple[Wire, Offer]:
    name = f"{server.host}:{server.port}"
    tls.refusals(context).clear()
    wire = Wire(expected=1)
    wire.name = name
    try:
        await _greeted(wire, server, context, via)
        extensions = await _hello(wire, name)
        if server.security == "starttls":
            await _start_tls(wire, server, context, extensions)
            extensions = await _hello(wire, name)
        offer = Offer.read(extensions)
        await _authenticate(wire, offer, server, credentials)
    except Lost as lost:
        wire.abort()
        raise failure(lost, server, context) from None
    except (OSError, EOFError) as error:
        wire.abort()
        raise tls.explained(error, name, context, server.security) from None
    except BaseException:
        wire.abort()
        raise
    return wire, offer


def failure(lost: Lost, server: "Server", context: ssl.SSLContext) -> MedmailError:
    """What a lost connection comes to."""
    name = f"{server.host}:{server.port}"
    if lost.reply is not None:
        return _refusal(name, lost.reply)
    if lost.cause is not None or tls.refusals(context):
        return tls.explained(lost.cause or EOFError(), name, context, server.security)
    return MedmailError("server-unreachable", host=name, reason=str(lost))


def _refusal(name: str, reply: Reply) -> MedmailError:
    later = reply.code < 500 or reply.code == 503
    return MedmailError("server-busy" if later else "server-refused", host=name, reply=str(reply))


async def _greeted(wire: Wire, server: "Server", context: ssl.SSLContext, via: str | None) -> None:
    """Connect, with TLS if it is there from the start, and hear the greeting."""
    loop = asyncio.get_running_loop()
    connected = await _reach(server, via)
    secured = server.security == "tls"

    async def begin() -> None:
        try:
            await loop.create_connection(
                lambda: wire,
                sock=connected,
                ssl=context if secured else None,
                server_hostname=server.host if secured else None,
                ssl_handshake_timeout=COMMAND_TIMEOUT if secured else None,
            )
        except BaseException:
            connected.close()
            raise

    async def greet() -> Reply:
        if secured:
            await handshake
        return await wire.reply()

    handshake = asyncio.ensure_future(begin())
    if not secured:
        await handshake
    greeting = asyncio.ensure_future(greet())
    try:
        first = handshake if secured else greeting
        done, _ = await asyncio.wait({first}, timeout=reaching.SILENCE)
        if not done:
            await asyncio.to_thread(reaching.check_other_way, server, via)
        reply = await greeting
    finally:
        for task in (greeting, handshake):
            task.cancel()
        await asyncio.gather(greeting, handshake, return_exceptions=True)
    if reply.code != 220:
        raise _refusal(f"{server.host}:{server.port}", reply)


async def _reach(server: "Server", via: str | None) -> socket.socket:
    """A connected socket that does not block."""
    loop = asyncio.get_running_loop()
    if via:
        through = await asyncio.to_thread(proxy.connect, server.host, server.port, CONNECT_TIMEOUT, via)
        through.setblocking(False)
        return through
    addresses = await asyncio.to_thread(proxy.look_up, server.host, server.port, CONNECT_TIMEOUT)
    problem: OSError = OSError("no address")
    for family, kind, protocol, _name, address in addresses:
        connected = socket.socket(family, kind, protocol)
        try:
            connected.setblocking(False)
            await asyncio.wait_for(loop.sock_connect(connected, address), CONNECT_TIMEOUT / len(addresses))
        except OSError as error:
            connected.close()
            problem = error
        except BaseException:
            connected.close()
            raise
        else:
            return connected
    raise problem


async def _hello(wire: Wire, name: str) -> dict[str, str]:
    """EHLO: its keywords, in lower case, and their parameters."""
    from aiosmtplib.esmtp import parse_esmtp_extensions

    reply = await wire.ask(f"EHLO {OWN_NAME}".encode())
    if not reply.ok:
        raise _refusal(name, reply)
    extensions, _ = parse_esmtp_extensions("\n".join(reply.lines))
    return extensions


async def _start_tls(
    wire: Wire, server: "Server", context: ssl.SSLContext, extensions: dict[str, str]
) -> None:
    if "starttls" not in extensions:
        raise MedmailError("no-starttls", host=server.host)
    reply = await wire.ask(b"STARTTLS")
    if reply.code != 220:
        if reply.temporary:
            raise _refusal(f"{server.host}:{server.port}", reply)
        raise MedmailError("no-starttls", host=server.host, reply=str(reply))
    if wire.unread:
        # sent before encryption, to be taken for the server's own word after it (CVE-2021-33515)
        raise MedmailError("server-answer-malformed", host=f"{server.host}:{server.port}", detail="STARTTLS")
    loop = asyncio.get_running_loop()
    transport = await loop.start_tls(
        wire.transport,
        wire,
        context,
        server_hostname=server.host,
        ssl_handshake_timeout=COMMAND_TIMEOUT,
    )
    if transport is None:
        raise EOFError
    wire.connection_made(transport)


async def _authenticate(wire: Wire, offer: Offer, server: "Server", credentials: "Credentials") -> None:
    """AUTH (RFC 4954)."""
    mechanism = sasl.choose(offer.mechanisms, credentials)
    # a token may come from a program
    exchange = await asyncio.to_thread(sasl.Exchange, mechanism, credentials, server.host, server.port)
    waiting = exchange.initial
    command = f"AUTH {mechanism}".encode()
    if waiting is not None:
        whole = command + b" " + (base64.b64encode(waiting) or b"=")
        if len(whole) + 2 <= COMMAND_LINE:
            command, waiting = whole, None
    wire.secret = True
    reply = await wire.ask(command)
    for _ in range(_CHALLENGES):
        if reply.code != 334:
            break
        if waiting is not None:
            answer, waiting = waiting, None
        else:
            challenge = _decoded(reply.text)
            # deriving keys takes a moment (SCRAM)
            answer = await asyncio.to_thread(exchange.respond, challenge)
        reply = await wire.ask(base64.b64encode(answer))
    if reply.code != 235:
        refused = _login_refusal(wire, server, credentials.login, exchange, reply)
        if credentials.password is not None and refused.code == "login-refused":
            credentials.refused(refused)
        raise refused
    exchange.finish()
    wire.secret = False


def _decoded(text: str) -> bytes:
    with contextlib.suppress(binascii.Error, ValueError):
        return base64.b64decode(text, validate=True)
    # some report errors in plain words here; a mechanism that reads its challenges will object
    return text.encode()


def _login_refusal(
    wire: Wire, server: "Server", login: str, exchange: sasl.Exchange, reply: Reply
) -> MedmailError:
    name = f"{server.host}:{server.port}"
    if reply.code < 400:
        wire.give_up(f"out of place: {reply}")
    words = f"{reply} ({exchange.report})" if exchange.report else str(reply)
    if reply.code == PASSWORD_TRANSITION:
        return MedmailError("login-expired", host=name, login=login, reply=words)
    invalid = reply.text.startswith(CREDENTIALS_INVALID)
    from medmail_cli.transport.imapanswers import will_pass  # the same words

    if reply.temporary or (not invalid and will_pass("", reply.text)):
        return MedmailError("server-busy", host=name, reply=words)
    return MedmailError("login-refused", host=name, login=login, reply=words)
