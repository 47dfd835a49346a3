"""What a run needs, opened on first use: configuration, keystore, stores, log, secrets, clock, questions.

Only what is opened here is handed to a workflow, as an argument. Closing the session signs the audit
log's checkpoint if the run wrote to it.
"""

import datetime
import os
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from medmail_cli.config import (
    Account,
    Config,
    Paths,
    environment_home,
    load,
    paths,
)
from medmail_cli.devices import coredumps
from medmail_cli.errors import MedmailError, not_readable
from medmail_cli.model import Note
from medmail_cli.secret_sources import Secrets

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

    from medmail_cli.devices.cards import Cards
    from medmail_cli.model import CardPlace, PrivateKey
    from medmail_cli.profile import Profile
    from medmail_cli.store.keys.keystore import Keystore
    from medmail_cli.store.keys.unlocked import Unlocked
    from medmail_cli.store.log.run import RunContext
    from medmail_cli.store.log.writer import AuditLog
    from medmail_cli.store.mail.mailbox import Mailbox
    from medmail_cli.store.queue.outbox import Outbox
    from medmail_cli.store.trust.anchors import Trust
    from medmail_cli.store.trust.believed import Believed
    from medmail_cli.store.trust.contacts import Contacts
    from medmail_cli.ui.console import Console
    from medmail_cli.ui.formats import Format


@dataclass
class Options:
    """The global options; they may stand before or after the verb, so parsing fills them in bit by bit."""

    format: str = "text"
    """One of ``registers.FORMATS``."""
    quiet: bool = False
    verbose: int = 0
    color: bool = True
    home: Path | None = None
    lang: str | None = None
    no_input: bool = False
    debug: bool = False
    account: str | None = None
    secret_files: dict[str, Path] = field(default_factory=dict)
    secret_fds: dict[str, int] = field(default_factory=dict)


class Session:
    """One run of medmail. Every property opens its store on first use."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.secrets = Secrets(
            options.secret_files,
            options.secret_fds,
            lambda: self.config,
            self.stdin,
            lambda: self.can_ask,
            self.note,
        )
        self._notes: dict[object, Note] = {}
        self._stdin_reader: str | None = None

    # -- where things are, and when it is

    @cached_property
    def paths(self) -> Paths:
        return paths(self.options.home or environment_home())

    @cached_property
    def config(self) -> Config:
        return load(self.paths.config)

    @cached_property
    def profile(self) -> "Profile":
        from medmail_cli.profile import load as load_profile

        loaded = load_profile(os.environ.get("MEDMAIL_PROFILE") or self.config.profile)
        return replace(loaded, headers={**loaded.headers, **self.config.headers})

    @property
    def account_name(self) -> str | None:
        """The account that was asked for, where one was."""
        return self.options.account or os.environ.get("MEDMAIL_ACCOUNT") or None

    def account(self, name: str | None = None, *, address: str | None = None) -> Account:
        """The account of that name, else the one with ``address``, else the first.

        Raises ``no-config`` without any account and ``no-account`` where none has the name.
        """
        accounts = self.config.accounts
        if not accounts:
            raise MedmailError("no-config", path=str(self.paths.config))
        name = name or self.account_name
        if name is not None:
            if name not in accounts:
                raise MedmailError("no-account", name=name, path=str(self.paths.config))
            return accounts[name]
        if address is not None:
            from medmail_cli.pki.x509.address import same_address

            for account in accounts.values():
                if same_address(account.address, address):
                    return account
        return next(iter(accounts.values()))

    def now(self) -> datetime.datetime:
        """The current instant, in UTC."""
        return datetime.datetime.now(datetime.UTC)

    @cached_property
    def actor(self) -> str:
        """Who acts, as the audit log names them: the real user's name, whatever the environment says."""
        import pwd

        try:
            return pwd.getpwuid(os.getuid()).pw_name
        except KeyError:
            return f"uid {os.getuid()}"

    @property
    def run(self) -> "RunContext":
        """The audit log, the actor and this instant, as workflows take them."""
        from medmail_cli.store.log.run import RunContext

        return RunContext(self.log, self.actor, self.now())

    # -- streams and questions

    @cached_property
    def console(self) -> "Console":
        from medmail_cli.ui.console import Console

        options = self.options
        return Console(quiet=options.quiet, verbose=options.verbose, color=options.color)

    def format(self) -> "Format":
        """The form in which one command's events are told."""
        from medmail_cli.ui import formats

        return formats.opened(self.options.format, self.console)

    def stdin(self, reader: str) -> bytes:
        """All of stdin, for ``reader`` (an option's or argument's name).

        Raises ``stdin-twice``, also for a secret that is to come from there and was not needed so far.
        """
        secrets = [f"--{name}-file" for name, path in self.options.secret_files.items() if str(path) == "-"]
        secrets += [f"--{name}-fd" for name, number in self.options.secret_fds.items() if number == 0]
        readers = dict.fromkeys([*secrets, *([self._stdin_reader] if self._stdin_reader else []), reader])
        if self._stdin_reader == reader or len(readers) > 1:
            raise MedmailError("stdin-twice", first=next(iter(readers)), second=list(readers)[-1])
        self._stdin_reader = reader
        return sys.stdin.buffer.read()

    def read(self, path: Path, reader: str) -> bytes:
        """A file given on the command line as ``reader``, ``-`` being stdin.

        Raises ``not-found``, ``not-readable``, ``stdin-twice``.
        """
        if str(path) == "-":
            return self.stdin(reader)
        try:
            return path.read_bytes()
        except FileNotFoundError:
            raise MedmailError("not-found", what="file", name=str(path)) from None
        except OSError as error:
            raise not_readable(path, error) from None

    @property
    def can_ask(self) -> bool:
        """Is there a person at the terminal who may be asked?"""
        from medmail_cli.ui import prompt

        return not self.options.no_input and prompt.can_ask()

    def ask(self, code: str, flag: str = "--force", **facts: object) -> bool:
        """Ask the question ``code``. Raises ``needs-confirmation`` with ``flag`` where nobody can answer."""
        from medmail_cli.ui import i18n, prompt

        question = i18n.question(code, facts)
        if not self.can_ask:
            raise MedmailError("needs-confirmation", question=question, flag=flag)
        return prompt.confirm(question)

    # -- stores

    @property
    def _folders(self) -> Paths:
        """Where the stores are. Raises ``bad-config``: what config.toml says wrongly is heard at once."""
        self.config  # noqa: B018 - read for its errors
        return self.paths

    @cached_property
    def keystore(self) -> "Keystore":
        from medmail_cli.store.keys.keystore import Keystore

        return Keystore(self._folders.keystore, logged=lambda: self.believed.revoked())

    @cached_property
    def unlocked(self) -> "Unlocked":
        """The keystore, open: by the kernel's keyring if unlocked for a while, else by the passphrase."""
        return self._with_cards(self._sealed(self._unlock()))

    def _unlock(self) -> "Unlocked":
        from medmail_cli.devices import keyring
        from medmail_cli.store.keys.unlocked import unlock_with

        coredumps.off()
        self.keystore.read_header()
        if (key := keyring.kept_master_key(self.paths.keystore)) is not None:
            # a key kept for a keystore that stood here before opens nothing
            with suppress(MedmailError):
                return unlock_with(self.keystore, key)
        return self._by_passphrase()

    def unlock_by_passphrase(self) -> "Unlocked":
        """The keystore, for whoever knows its passphrase: `keys unlock` is not enough to take keys away."""
        return self._sealed(self._by_passphrase())

    def _by_passphrase(self) -> "Unlocked":
        from medmail_cli.store.keys.unlocked import unlock

        self.keystore.read_header()
        with self.refusals_logged():
            return unlock(self.keystore, self.secrets.get("passphrase"))

    @contextmanager
    def refusals_logged(self) -> "Iterator[None]":
        """Let the audit log know of a secret that opened nothing: somebody may be trying."""
        try:
            yield
        except MedmailError as error:
            if error.code in _WRONG_SECRETS:
                self._log_refusal(error.code)
            raise

    def _log_refusal(self, code: str) -> None:
        with suppress(MedmailError):  # that the secret is wrong is what the user must hear of
            self.log.event("secret-refused", actor=self.actor, error=code)

    def unlock_or_create(self) -> "Unlocked":
        """The keystore, open; where there is none yet it is made, with a new passphrase."""
        from medmail_cli.store.keys.unlocked import create_keystore
        from medmail_cli.store.trust.believed import SEAL_LABEL

        if "unlocked" not in self.__dict__ and not self.keystore.exists:
            believed = self.believed.belief
            with self.refusals_logged():
                created = create_keystore(self.keystore, self.secrets.new("passphrase"), self.now())
            self.believed.seal(self.keystore.folder, created.subkey(SEAL_LABEL), believed)
            self.__dict__["unlocked"] = self._with_cards(created)
        return self.unlocked

    def _with_cards(self, unlocked: "Unlocked") -> "Unlocked":
        def open_card(card_place: "CardPlace", public_key: "PublicKeyTypes") -> "PrivateKey":
            from medmail_cli.devices.cardkey import key_at

            return key_at(self.cards, card_place, public_key)

        unlocked.open_card = open_card
        return unlocked

    @cached_property
    def cards(self) -> "Cards":
        """The cards that this run uses, logged out of at its end."""
        from medmail_cli.devices.cards import Cards
        from medmail_cli.store.keys.refused_pins import RefusedPins

        return Cards(
            lambda label: self.secrets.get("pin", owner=label),
            lambda: RefusedPins(self.paths.keystore, self.unlock_or_create().subkey("refused pins")),
            self.config.card_module,
            self._log_refusal,
        )

    @cached_property
    def log(self) -> "AuditLog":
        from medmail_cli.store.log.writer import AuditLog

        return AuditLog(self._folders.audit, self.now)

    @cached_property
    def mailbox(self) -> "Mailbox":
        from medmail_cli.store.mail.mailbox import Mailbox

        return Mailbox(self._folders.mail)

    @cached_property
    def outbox(self) -> "Outbox":
        from medmail_cli.store.queue.outbox import Outbox

        return Outbox(self._folders.outbox)

    @cached_property
    def contacts(self) -> "Contacts":
        from medmail_cli.store.trust.contacts import Contacts

        return Contacts(self._folders.contacts, self.believed)

    @cached_property
    def trust(self) -> "Trust":
        from medmail_cli.store.trust.anchors import Trust

        return Trust(self._folders.trust, self._folders.cache, self.believed)

    @cached_property
    def believed(self) -> "Believed":
        """What the audit log says of anchors and contacts."""
        from medmail_cli.store.trust.believed import Believed, Home, TakenOver

        folders = self._folders

        def held() -> TakenOver:
            from medmail_cli.store.trust.adoption import Folders, everything

            return everything(Folders(folders.trust, folders.cache, folders.contacts, folders.keystore))

        return Believed(self.log, folders.cache, Home(folders.keystore, held))

    def _sealed(self, unlocked: "Unlocked") -> "Unlocked":
        """Now that it is open, its seal over whom one trusts is held against the log."""
        from medmail_cli.store.trust.believed import SEAL_LABEL

        self.believed.check_seal(self.keystore.folder, unlocked.subkey(SEAL_LABEL))
        return unlocked

    def note(self, note: Note) -> None:
        """Something to be told at the end of the run, once."""
        self._notes.setdefault((note.code, *note.facts.values()), note)

    def take_notes(self) -> "list[Note]":
        """What was noticed on the way and a person should hear of, each once: torn writes, open secrets."""
        notes, self._notes = list(self._notes.values()), {}
        if "log" in self.__dict__:
            notes, self.log.notes = [*self.log.notes, *notes], []
        return notes

    def close(self) -> None:
        """Close what was opened; cards are logged out of, and the audit log's checkpoint is signed, here."""
        for name in ("cards", "log", "mailbox", "outbox"):
            if name in self.__dict__:
                self.__dict__[name].close()


_WRONG_SECRETS = {"wrong-passphrase", "wrong-backup-passphrase", "wrong-p12-password"}
