"""A message handed over on an SMTP connection.

RFC 5321, with PIPELINING (2920), CHUNKING (3030), SIZE (1870), 8BITMIME (6152), SMTPUTF8 (6531), DSN
(3461) and LIMITS (9422) where the server offers them. With PIPELINING and CHUNKING a small message takes
one write and one round trip.

Of each recipient one of four things is known at the end: accepted, refused for good, not taken for now,
or unknown: the connection broke after the end of the data was sent and before the reply came.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal, cast

from medmail_cli.transport.smtpwire import END_TIMEOUT, Lost, Offer, Reply, Wire

INLINE = 256 * 1024
"""A message up to this size goes out with its envelope in one write."""
CHUNK = 8 * 1024 * 1024
RSET = b"RSET\r\n"
START, BAD_SEQUENCE = 354, 503
"""Go on with the data; and: a command out of place, which is no word on a recipient (RFC 5321 §4.2.3)."""


@dataclass(frozen=True)
class Envelope:
    """Who sends to whom; ``id`` is the Message-ID, ``utf8`` whether the header itself needs SMTPUTF8."""

    sender: str
    recipients: tuple[str, ...]
    id: str
    utf8: bool = False
    ask_dsn: bool = True

    @property
    def needs_utf8(self) -> bool:
        """Whether only a server with SMTPUTF8 can take it."""
        return self.utf8 or not all(address.isascii() for address in (self.sender, *self.recipients))


@dataclass(frozen=True)
class Result:
    """What became of one recipient: the server's words, or the ``code`` of why it was not even asked.

    With ``too-large`` ``limit`` is the server's, in octets.
    """

    status: Literal["accepted", "refused", "queued", "unknown"]
    reply: str | None
    code: str | None = None
    limit: int | None = None


Mark = Callable[[Sequence[str]], Awaitable[None]]


async def hand_over(
    wire: Wire, offer: Offer, envelope: Envelope, data: bytes, results: dict[str, Result], mark: Mark
) -> None:
    """Send ``data`` (CRLF line ends) to every recipient, in as many transactions as the server wants.

    ``results`` is filled as recipients' fates become known. ``mark`` is awaited before the end of the data
    goes out, with the addresses it is for. Raises Lost, with ``results`` complete too.
    """
    pending, limit = list(envelope.recipients), offer.recipients
    heads: dict[str, Reply] = {}
    marked: set[str] = set()

    async def note(addresses: Sequence[str]) -> None:
        await mark(addresses)
        marked.update(addresses)

    try:
        while pending:
            batch = pending[:limit]
            heads.clear()
            end = await _transaction(wire, offer, envelope, batch, data, heads, note)
            taken = [address for address in batch if heads[address].ok]
            again = [a for a in batch if heads[a].too_many] if taken else []
            for address in batch:
                if address not in again:
                    reply = end if heads[address].ok and end is not None else heads[address]
                    results[address] = Result(_status(reply), str(reply))
            marked.difference_update(batch)
            pending = again + pending[len(batch) :]
            limit = min(limit, len(taken)) if again else limit
    except Lost as lost:
        if lost.confused:
            heads.clear()
        for address in pending:
            if address in heads and not heads[address].ok:
                results[address] = Result(_status(heads[address]), str(heads[address]))
            else:
                # with a reply to a command, what it and those after it asked for was not done
                doubtful = address in marked and lost.reply is None
                results[address] = Result("unknown" if doubtful else "queued", str(lost))
        raise


def _status(reply: Reply) -> Literal["accepted", "refused", "queued"]:
    if reply.ok:
        return "accepted"
    return "queued" if reply.temporary or reply.code < 400 else "refused"


async def _transaction(
    wire: Wire,
    offer: Offer,
    envelope: Envelope,
    batch: Sequence[str],
    data: bytes,
    heads: dict[str, Reply],
    mark: Mark,
) -> Reply | None:
    """One transaction, closed whatever comes of it: ``heads`` gets each recipient's reply to RCPT.

    Returned is the reply to the data, None where nobody was left to send them to. A server may keep a
    transaction open that came to nothing, and refuse the next MAIL (RFC 5321 §4.1.4, RFC 2920 §3.1,
    RFC 3030 §2), so every way out leads through RSET or through data that were taken.
    """
    commands = [_mail(offer, envelope, data), *(_rcpt(offer, envelope, address) for address in batch)]
    if offer.pipelining and offer.chunking and len(data) <= INLINE:
        await mark(batch)
        # RSET goes along: it closes what was refused, and shows that each reply was for its command
        wire.write(b"".join(commands) + b"BDAT %d LAST\r\n" % len(data) + data + RSET, len(commands) + 2)
        accepted = await _heads(wire, batch, heads)
        end = _last(wire, await wire.reply(END_TIMEOUT))
        await _confirmed(wire, end)
        return end if accepted else None
    with_data = offer.pipelining and not offer.chunking
    if offer.pipelining:
        wire.write(b"".join(commands) + (b"DATA\r\n" if with_data else b""), len(commands) + with_data)
        accepted = await _heads(wire, batch, heads)
    else:
        accepted = await _one_by_one(wire, commands, batch, heads)
    if not accepted and not with_data:
        await wire.reset()
        return None
    if offer.chunking:
        return await _in_chunks(wire, offer, data, accepted, mark)
    if not with_data:
        wire.write(b"DATA\r\n")
    go = await wire.reply()
    if go.code != START:
        if go.code < 400 or (accepted and go.code == BAD_SEQUENCE):
            wire.fail(go)
        await wire.reset()
        return go if accepted else None
    if not accepted:
        # a server may say 354 although nobody is left: send nothing (RFC 2920 §3.1)
        await wire.ask(b".", END_TIMEOUT)
        await wire.reset()
        return None
    wire.write(stuffed(data), 0)
    await wire.drain()
    await mark(accepted)
    return await _ended(wire, offer, b".\r\n")


async def _ended(wire: Wire, offer: Offer, command: bytes) -> Reply:
    """The end of the data: the reply to it, after which no transaction is open."""
    if offer.pipelining:
        wire.write(command + RSET, 2)
        end = _last(wire, await wire.reply(END_TIMEOUT))
        await _confirmed(wire, end)
        return end
    wire.write(command)
    end = _last(wire, await wire.reply(END_TIMEOUT))
    if not end.ok:
        await wire.reset()
    return end


def _last(wire: Wire, end: Reply) -> Reply:
    """The reply to the end of the data, unless it can be none. Raises Lost: then nobody knows."""
    if not end.ok and end.code < 400:
        wire.give_up(f"out of place: {end}")
    return end


async def _confirmed(wire: Wire, end: Reply) -> None:
    """Read the reply to RSET. Raises Lost where it shows that the one before was not for the data."""
    try:
        reply = await wire.reply()
    except Lost as lost:
        if end.ok and (lost.reply is not None or str(lost) in ("cut-off", "timed-out")):
            return  # taken, and then the server went
        raise
    if not reply.ok:
        wire.give_up(f"out of place: {reply}")


def _placed(wire: Wire, reply: Reply) -> Reply:
    """A reply to MAIL or RCPT, unless it says that the server takes us to be elsewhere. Raises Lost."""
    if (not reply.ok and reply.code < 400) or reply.code == BAD_SEQUENCE:
        wire.give_up(f"out of place: {reply}")
    return reply


async def _heads(wire: Wire, batch: Sequence[str], heads: dict[str, Reply]) -> list[str]:
    """Read the replies to MAIL and to every RCPT; the recipients taken."""
    mail = await wire.reply()
    if mail.code == BAD_SEQUENCE or (not mail.ok and mail.code < 400):
        wire.fail(mail)
    if not mail.ok:
        # known before the rest is read, which says no more than that MAIL is missing
        heads.update(dict.fromkeys(batch, mail))
    for address in batch:
        reply = await wire.reply()
        if mail.ok:
            heads[address] = _placed(wire, reply)
    return [address for address in batch if heads[address].ok]


async def _one_by_one(
    wire: Wire, commands: Sequence[bytes], batch: Sequence[str], heads: dict[str, Reply]
) -> list[str]:
    wire.write(commands[0])
    mail = _placed(wire, await wire.reply())
    for address, command in zip(batch, commands[1:], strict=True):
        if mail.ok:
            wire.write(command)
            heads[address] = _placed(wire, await wire.reply())
        else:
            heads[address] = mail
    return [address for address in batch if heads[address].ok]


async def _in_chunks(wire: Wire, offer: Offer, data: bytes, accepted: Sequence[str], mark: Mark) -> Reply:
    """BDAT (RFC 3030): no dot-stuffing, and the server may refuse before all is sent."""
    whole = memoryview(data)
    for start in range(0, len(data), CHUNK):
        chunk = whole[start : start + CHUNK]
        wire.write(b"BDAT %d\r\n" % len(chunk))
        wire.write(cast("bytes", chunk), 0)
        await wire.drain()
        reply = await wire.reply(END_TIMEOUT)
        if not reply.ok and reply.code < 400:
            wire.fail(reply)
        if not reply.ok:
            await wire.reset()
            return reply
    await mark(accepted)
    return await _ended(wire, offer, b"BDAT 0 LAST\r\n")


def stuffed(data: bytes) -> bytes:
    """``data`` as DATA wants it: dots at line starts doubled, CRLF at the end (§4.5.2)."""
    if data.startswith(b".") or b"\n." in data:
        data = re.sub(rb"(?m)^\.", b"..", data)
    return data if data.endswith(b"\r\n") else data + b"\r\n"


def _mail(offer: Offer, envelope: Envelope, data: bytes) -> bytes:
    words = [f"MAIL FROM:<{envelope.sender}>"]
    if offer.size is not None:
        words.append(f"SIZE={len(data)}")
    if envelope.needs_utf8:
        words.append("SMTPUTF8")
    if offer.eight_bit and not data.isascii():
        words.append("BODY=8BITMIME")
    if offer.dsn and envelope.ask_dsn:
        words += ["RET=HDRS", f"ENVID={xtext(envelope.id.strip('<>'))[:100]}"]
    return _command(words)


def _rcpt(offer: Offer, envelope: Envelope, address: str) -> bytes:
    words = [f"RCPT TO:<{address}>"]
    if offer.dsn and envelope.ask_dsn:
        kind = "rfc822" if address.isascii() else "utf-8"
        words += ["NOTIFY=FAILURE,DELAY", f"ORCPT={kind};{xtext(address)}"]
    return _command(words)


def _command(words: Sequence[str]) -> bytes:
    line = " ".join(words).encode()
    if re.search(rb"[\x00-\x1f\x7f]", line):
        raise ValueError("a control character in an SMTP command")
    return line + b"\r\n"


def xtext(text: str) -> str:
    """``text`` as a DSN parameter (RFC 3461 §4); what is not ASCII as RFC 6533 §3 has it."""
    return "".join(
        character
        if "!" <= character <= "~" and character not in "+=\\"
        else f"+{ord(character):02X}"
        if character.isascii()
        else f"\\x{{{ord(character):X}}}"
        for character in text
    )
