"""An IMAP mailbox over verified TLS, read without ever marking or deleting anything (RFC 3501).

A thin client of our own: messages are asked for by the hundred, the next hundred before the last has been
read, and every limit on what a server may send is ours.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

from medmail_cli.errors import MedmailError
from medmail_cli.transport import imapanswers, imapfolders, imapwire
from medmail_cli.transport.imapsession import UNASKED_LIMIT, ImapSession
from medmail_cli.transport.imapwire import Response, Wanted
from medmail_cli.transport.mailserver import INBOX, LOST, News, OpenFolder, Received, Sink

GROUP = 200
"""Messages a command asks for; two commands are under way at a time."""
LARGEST = 512 * 1024 * 1024
"""Octets of a message that is still taken."""


@dataclass(frozen=True)
class _Examined:
    """What a server says of a folder (§6.3.2); ``uidnext`` is 0, ``exists`` None where it does not say."""

    folder: str
    uidvalidity: int
    uidnext: int
    exists: int | None


class Imap(ImapSession):
    """The folders behind a session and the messages in them."""

    _seen: _Examined | None = None

    def again(self) -> None:
        """See :meth:`.mailserver.MailServer.again`."""
        self.close(politely=False)
        self._seen = None
        self._connect()
        if self._credentials is not None:
            self.login(self._credentials)

    def reopen(self) -> None:
        """See :meth:`.mailserver.MailServer.reopen`."""
        before = self._open
        self.again()
        if self._examine(before.folder).uidvalidity != before.uidvalidity:
            raise self._wire.malformed("UIDVALIDITY")

    # -- folders

    def folders(self) -> list[str]:
        """The names of all folders that hold messages, as people read them.

        How the server writes each is remembered for :meth:`open`: names are octets, sent back as they
        came. A line of LIST that cannot be read stands for a folder that cannot be opened.
        """
        written: dict[str, bytes] = {}
        with self._errors():
            for response in self._command(b'LIST "" "*"'):
                if response.word != b"LIST":
                    continue
                flags, name = imapfolders.listed(response)
                if flags & imapfolders.EMPTY or name in written.values():
                    continue
                written[imapfolders.shown(name, written)] = name
        self._written = written
        return sorted(written, key=lambda name: (name != INBOX, name))

    def open(self, folder: str) -> OpenFolder:
        """See :meth:`.mailserver.MailServer.open`; a generation is a UIDVALIDITY (§2.3.1.1)."""
        seen = self._examine(folder)
        end = _position(seen.uidvalidity, seen.uidnext) if seen.uidnext else ""
        return OpenFolder(str(seen.uidvalidity), end, seen.exists)

    @property
    def _open(self) -> _Examined:
        assert self._seen is not None  # noqa: S101 - who asks for messages has opened their folder
        return self._seen

    def _examine(self, folder: str) -> _Examined:
        if folder.upper() == INBOX:  # the one name without regard to case (§5.1)
            folder = INBOX
        self._seen = None
        said = {"UIDVALIDITY": 0, "UIDNEXT": 0}
        exists: int | None = None
        with self._errors():
            for response in self._examined(folder):
                name, _, value = response.code.partition(" ")
                if name.upper() in said and re.fullmatch(r"\d{1,10}", value.strip()):
                    said[name.upper()] = int(value)
                elif (count := response.number(b"EXISTS")) is not None:
                    exists = count
        if not said["UIDVALIDITY"]:
            raise self._wire.malformed("UIDVALIDITY")
        self._seen = _Examined(folder, said["UIDVALIDITY"], said["UIDNEXT"], exists)
        return self._seen

    def _examined(self, folder: str) -> list[Response]:
        name = self._written.get(folder, imapwire.encode_folder(folder).encode())
        try:
            return self._with_strings(b"EXAMINE", name)
        except MedmailError as error:
            if error.code != "server-refused":
                raise
            reason = self._not_examined(folder, error)
            # only now, perhaps, is it known how the server itself writes the name
            if (written := self._written.get(folder, name)) == name:
                raise reason from None
        return self._with_strings(b"EXAMINE", written)

    def _with_strings(self, command: bytes, *strings: bytes) -> list[Response]:
        """Run a command with strings the server need not be able to read quoted."""
        first, *rest = imapwire.with_strings(command, list(strings))
        untagged = []
        for response in self._until(self._send(first)):
            if response.tag == b"*":
                untagged.append(response)
            elif response.tag != b"+":
                self._succeed(response)
            elif rest:
                self._wire.send(rest.pop(0) + b"\r\n")
            else:
                raise self._wire.malformed("continuation")
        return untagged

    def _not_examined(self, folder: str, refused: MedmailError) -> MedmailError:
        """Why a folder was refused: only a server that does not list it has no such folder."""
        code = str(refused.facts["code"])
        missing = code == "NONEXISTENT"
        if folder == INBOX and not missing:
            # it always exists (§5.1): what is not forbidden for good is in disorder for the moment
            facts = {name: refused.facts[name] for name in ("host", "reply", "code")}
            return refused if imapanswers.is_final(code) else MedmailError("server-busy", **facts)
        if missing or not imapanswers.is_final(code):
            with suppress(MedmailError):  # then the first refusal says more
                missing = folder not in self.folders() or missing
        return MedmailError("not-found", what="folder", name=folder) if missing else refused

    # -- what is new

    def news(self, since: str, witnesses: Callable[[], Mapping[str, frozenset[str]]] = dict) -> News:
        """See :meth:`.mailserver.MailServer.news`; a position is UIDVALIDITY and the next UID."""
        seen = self._open
        known = re.fullmatch(r"(\d{1,10})/(\d{1,10})", since)
        first = max(1, int(known[2])) if known and int(known[1]) == seen.uidvalidity else 0
        if first and seen.uidnext and seen.uidnext <= first:
            # below it the server's mailbox is an older one: other messages may bear the numbers known here
            return News((), since, restored=seen.uidnext < first)
        expected = {int(server_id): ids for server_id, ids in witnesses().items()}
        uids, said = self._since(first or 1, seen, sorted(expected))
        if any(said[uid] not in expected[uid] for uid in said.keys() & expected.keys()):
            # older as well, and grown past what we had since
            return News((), since, restored=True)
        # what is below the UIDNEXT told before the search is found or gone; what came since lies beyond both
        following = max(first, 1, seen.uidnext, *(uid + 1 for uid in uids[-1:]))
        return News(tuple(map(str, uids)), _position(seen.uidvalidity, following))

    def _since(
        self, first: int, seen: _Examined, witnesses: Sequence[int]
    ) -> tuple[list[int], dict[int, str]]:
        """What is there from ``first`` on, and what the server calls the witnesses, if it says so."""
        try:
            return self._found(first, seen, witnesses)
        except MedmailError as error:
            if not witnesses or error.code not in LOST:
                raise
        # perhaps it was over these
        self.reopen()
        return self._found(first, self._open)

    def _found(
        self, first: int, seen: _Examined, witnesses: Sequence[int] = ()
    ) -> tuple[list[int], dict[int, str]]:
        """The UIDs from ``first`` on, ascending, and the Message-IDs of the ``witnesses``.

        What a search leaves out is believed only where it agrees with what was ``seen`` of the folder;
        else the server is asked in another way, too, and whatever either answer names counts. Of witnesses
        that are gone, or are not told of, there is no word.
        """
        uids, message_ids = self._search(b"UID %d:*" % first, witnesses)
        if _agree(uids, first, seen):
            return _from(first, uids), message_ids
        with self._errors():
            try:
                tag = self._send(b"UID FETCH %d:* (UID)" % first)
                for response in self._until(tag, most=UNASKED_LIMIT + (seen.exists or 0)):
                    if (uid := imapanswers.fetched(response)[0]) is not None:
                        uids.add(uid)
                self._succeed(response)
            except MedmailError as error:
                # some refuse a range in which there is nothing
                if error.code != "server-refused" or uids:
                    raise
        there = _from(first, uids)
        if not there and first == 1 and seen.exists:
            raise self._wire.malformed(f"{seen.exists} EXISTS, UID")
        return there, message_ids

    def named(self, server_ids: Sequence[str]) -> list[str]:
        """See :meth:`.mailserver.MailServer.named`."""
        named: set[int] = set()
        for at in range(0, len(server_ids), GROUP):
            asked = [int(server_id) for server_id in server_ids[at : at + GROUP]]
            there = self._search(b"UID " + imapwire.uid_set(asked))[0] & set(asked)
            if len(there) < len(asked):
                # a search alone may be empty for reasons of its own
                with self._errors():
                    command = b"UID FETCH " + imapwire.uid_set(asked) + b" (UID)"
                    there |= {
                        uid
                        for response in self._command(command)
                        if (uid := imapanswers.fetched(response)[0]) is not None and uid in asked
                    }
            named |= there
        return [str(uid) for uid in sorted(named)]

    def _search(self, key: bytes, witnesses: Sequence[int] = ()) -> tuple[set[int], dict[int, str]]:
        """What a search names; the Message-IDs of the witnesses are asked for without waiting in between."""
        uids: set[int] = set()
        message_ids: dict[int, str] = {}
        with self._errors():
            tags: set[bytes] = set()
            if witnesses:
                named = imapwire.uid_set(list(witnesses))
                tags.add(self._send(b"UID FETCH " + named + b" (UID BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])"))
            tags.add(search := self._send(b"UID SEARCH " + key))
            while tags:
                for response in self._until(*tags):
                    if response.word == b"SEARCH":
                        uids.update(int(word) for word in imapanswers.numbers(response))
                    elif response.word == b"ESEARCH":
                        uids |= imapanswers.extended(response)
                    elif response.tag == b"*" and witnesses:
                        message_ids |= imapanswers.message_id(response)
                tags.remove(response.tag)
                # a server that does not tell of witnesses has said nothing against them
                if response.tag == search:
                    end = response
            self._succeed(end)
        return uids, message_ids

    def fetch(
        self, server_ids: Sequence[str], room: Callable[[], Sink] | None = None
    ) -> Iterator[tuple[str, Received | MedmailError]]:
        """See :meth:`.mailserver.MailServer.fetch`."""
        rest = map(int, server_ids)
        under_way: dict[bytes, set[int]] = {}
        granted = 0

        def asked(text: bytes, size: int) -> bool:
            nonlocal granted
            message, uid = imapanswers.announced(text)
            wanted = uid is None or any(uid in group for group in under_way.values())
            # one message a response; where the UID comes after it, it is seen then
            if granted or not message or not wanted:
                return False
            granted += size
            return True

        def sink(size: int) -> Sink | None:
            return room() if room is not None and size <= LARGEST else None

        while True:
            with self._errors():
                while len(under_way) < 2 and (group := list(islice(rest, GROUP))):
                    command = b"UID FETCH " + imapwire.uid_set(group) + b" (UID BODY.PEEK[])"
                    under_way[self._send(command)] = set(group)
            if not under_way:
                return
            responses = self._until(*under_way, wanted=Wanted(asked, sink))
            while True:
                granted = 0
                with self._errors():
                    response = next(responses)
                    if response.tag in under_way:
                        break
                    message = self._message(response, under_way.values(), granted)
                if message is not None:
                    yield str(message[0]), message[1]
            left = under_way.pop(response.tag)
            refused: MedmailError | None = None
            with self._errors():
                try:
                    self._succeed(response)
                except MedmailError as error:
                    if error.code == "server-answer-malformed":
                        raise
                    refused = error
            if refused is not None:
                for uid in sorted(left):
                    yield str(uid), refused

    def _message(
        self, response: Response, groups: Iterable[set[int]], granted: int
    ) -> tuple[int, Received] | None:
        """A message that was asked for and has not come yet; None where a response brings none."""
        uid, body, wanted = None, None, None
        try:
            uid, body = imapanswers.fetched(response)
            wanted = next((group for group in groups if uid in group), None)
        finally:
            imapwire.discard(response.chunks, but=body if wanted is not None else None)
        if uid is None or body is None:
            return None
        if wanted is None:
            self._wire.allow(-granted)
            return None
        wanted.discard(uid)
        return uid, body

    # -- keeping a copy

    def append(self, folder: str, message: bytes, flags: Iterable[str] = ("\\Seen",)) -> None:
        """See :meth:`.mailserver.MailServer.append`."""
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


def _agree(uids: set[int], first: int, seen: _Examined) -> bool:
    """Do a search and what was said of the folder leave no message unaccounted for?

    ``n:*`` names the last message even below n (§6.4.8): an answer without any says that there is none.
    """
    if seen.exists == 0:
        return not uids or max(uids) < first
    if first == 1 and seen.exists is not None and len(uids) < seen.exists:
        return False
    return bool(uids) and max(uids) >= max(first, seen.uidnext - 1)


def _position(uidvalidity: int, uidnext: int) -> str:
    return f"{uidvalidity}/{uidnext}"


def _from(first: int, uids: set[int]) -> list[int]:
    return sorted(uid for uid in uids if first <= uid < 1 << 32)
