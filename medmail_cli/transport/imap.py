"""An IMAP mailbox over verified TLS, read without ever marking or deleting anything (RFC 3501).

A thin client of our own: messages are asked for by the hundred, the next hundred before the last has been
read, and every limit on what a server may send is ours.
"""

import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

from medmail_cli.errors import MedmailError
from medmail_cli.transport import imapanswers, imapwire
from medmail_cli.transport.imapsession import ImapSession
from medmail_cli.transport.imapwire import Response, TooLarge

GROUP = 200
"""Messages a command asks for; two commands are under way at a time."""


@dataclass(frozen=True)
class Examined:
    """What a server says of a folder (§6.3.2); ``uidnext`` is 0 where it does not say."""

    uidvalidity: int
    uidnext: int
    exists: int


class Imap(ImapSession):
    """The folders behind a session and the messages in them."""

    # -- folders

    def folders(self) -> list[str]:
        """The names of all folders that hold messages."""
        names = []
        with self._errors():
            for response in self._command(b'LIST "" "*"'):
                if response.word != b"LIST":
                    continue
                match response.values():
                    case [_, [*flags], _, bytes(name), *_]:
                        lowered = {flag.lower() for flag in flags if isinstance(flag, bytes)}
                        if not lowered & {b"\\noselect", b"\\nonexistent"}:
                            names.append(imapwire.decode_folder(name.decode("utf-8", "replace")))
                    case _:
                        raise ValueError("LIST")
        return sorted(names, key=lambda name: (name.upper() != "INBOX", name))

    def examine(self, folder: str) -> Examined:
        """Open a folder for reading only. Raises ``not-found``, ``server-refused``."""
        found = {"UIDVALIDITY": 0, "UIDNEXT": 0}
        exists = 0
        with self._errors():
            try:
                responses = self._command(b"EXAMINE " + imapwire.quoted(imapwire.encode_folder(folder)))
            except MedmailError as error:
                if error.code != "server-refused":
                    raise
                raise self._not_examined(folder, error) from None
            for response in responses:
                name, _, value = response.code.partition(" ")
                if name.upper() in found and re.fullmatch(r"\d{1,10}", value):
                    found[name.upper()] = int(value)
                elif counted := re.match(rb"(\d{1,10}) EXISTS\s*\Z", response.text, re.IGNORECASE):
                    exists = int(counted[1])
        if not found["UIDVALIDITY"]:
            raise self._wire.malformed("UIDVALIDITY")
        return Examined(found["UIDVALIDITY"], found["UIDNEXT"], exists)

    def _not_examined(self, folder: str, refused: MedmailError) -> MedmailError:
        """Why a folder was refused: only a server that does not list it has no such folder."""
        code = str(refused.facts["code"])
        missing = code == "NONEXISTENT"
        if folder.upper() == "INBOX" and not missing:
            # it always exists (§5.1): what is not forbidden for good is in disorder for the moment
            facts = {name: refused.facts[name] for name in ("host", "reply", "code")}
            return refused if imapanswers.is_final(code) else MedmailError("server-busy", **facts)
        if not imapanswers.is_final(code):
            with suppress(MedmailError):  # then the first refusal says more
                missing = folder not in self.folders()
        return MedmailError("not-found", what="folder", name=folder) if missing else refused

    def search(self, first: int) -> list[int]:
        """The UIDs from ``first`` on in the open folder, ascending."""
        uids: set[int] = set()
        with self._errors():
            for response in self._command(b"UID SEARCH UID %d:*" % first):
                if response.word == b"SEARCH":
                    uids.update(int(word) for word in response.text.split()[1:])
        # `n:*` is never empty: it names the last message even below n
        return sorted(uid for uid in uids if first <= uid < 1 << 32)

    def fetch(self, uids: Sequence[int]) -> Iterator[tuple[int, bytes | TooLarge]]:
        """The messages with ``uids`` in the open folder as the server sends them; those gone are left out.

        Raises ``server-refused``.
        """
        rest = iter(uids)
        under_way: deque[tuple[bytes, set[int]]] = deque()
        while True:
            with self._errors():
                while len(under_way) < 2 and (group := list(islice(rest, GROUP))):
                    command = b"UID FETCH " + imapwire.uid_set(group) + b" (UID BODY.PEEK[])"
                    under_way.append((self._send(command), set(group)))
            if not under_way:
                return
            tag, _ = under_way[0]
            wanted = [group for _, group in under_way]
            responses = self._until(tag)
            while True:
                with self._errors():
                    response = next(responses)
                    if response.tag == tag:
                        self._succeed(response)
                        under_way.popleft()
                        break
                    fetched = _fetched(response)
                if fetched is not None:
                    for group_ in wanted:
                        if fetched[0] in group_:
                            group_.discard(fetched[0])
                            yield fetched

    # -- keeping a copy

    def append(self, folder: str, message: bytes, flags: Iterable[str] = ("\\Seen",)) -> None:
        """Add a message to a folder of the server, which is made if need be. Raises ``server-refused``."""
        name = imapwire.quoted(imapwire.encode_folder(folder))
        command = b"APPEND %s (%s) {%d}" % (name, " ".join(flags).encode(), len(message))
        with self._errors():
            try:
                self._append(command, message)
            except MedmailError as error:
                if error.code != "server-refused" or not str(error.facts["code"]).startswith("TRYCREATE"):
                    raise
                self._command(b"CREATE " + name)
                self._append(command, message)

    def _append(self, command: bytes, message: bytes) -> None:
        for response in self._until(self._send(command)):
            if response.tag == b"+":
                self._wire.send(message + b"\r\n")
            elif response.tag != b"*":
                self._succeed(response)


def _fetched(response: Response) -> tuple[int, bytes | TooLarge] | None:
    """UID and message of a FETCH response that carries both, else None. Raises ValueError."""
    if not re.match(rb"\d+ FETCH ", response.text, re.IGNORECASE):
        return None
    values = response.values()
    items = values[2] if len(values) > 2 else None
    if not isinstance(items, list):
        raise ValueError("FETCH")  # noqa: TRY004 - one exception for whatever is malformed
    uid: int | None = None
    body: bytes | TooLarge | None = None
    for name, value in zip(items[::2], items[1::2], strict=False):
        if not isinstance(name, bytes):
            raise ValueError("FETCH")  # noqa: TRY004 - one exception for whatever is malformed
        if name.upper() == b"UID" and isinstance(value, bytes):
            uid = int(value)
        elif name.upper() == b"BODY[]" and isinstance(value, bytes | TooLarge):
            body = value
    return None if uid is None or body is None else (uid, body)
