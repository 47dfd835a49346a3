"""Where secrets come from: an option, a descriptor, the environment, config.toml, a keyring, a person.

Never from an argument's or a variable's value; each is asked for at most once a run.
"""

import os
import threading
from collections.abc import Callable
from pathlib import Path

from medmail_cli.config import Config
from medmail_cli.devices import coredumps
from medmail_cli.errors import MedmailError, path_of
from medmail_cli.model import Note
from medmail_cli.toml import SecretSource


class Secrets:
    """The secrets of one run. ``files`` and ``descriptors`` are what the command line names, by secret.

    ``stdin`` gives standard input, for whoever is named; ``can_ask`` says whether there is a person.
    """

    def __init__(
        self,
        files: dict[str, Path],
        descriptors: dict[str, int],
        config: Callable[[], Config],
        stdin: Callable[[str], bytes],
        can_ask: Callable[[], bool],
        note: Callable[[Note], None],
    ) -> None:
        self._files, self._descriptors, self._config = files, descriptors, config
        self._stdin, self._can_ask, self._note = stdin, can_ask, note
        self._known: dict[tuple[str, str], bytes] = {}
        self._said_once: set[tuple[str, str]] = set()
        """Those that were typed or came by a pipe: they cannot be had again."""
        self._asking = threading.Lock()
        self.refused: dict[tuple[str, str], MedmailError] = {}
        """Those that a server has refused in this run, and how: each time more may lock the account."""

    def get(self, name: str, source: SecretSource | None = None, *, owner: str = "") -> bytes:
        """The secret ``name``, by the first way that has it; asked for at most once a run.

        ``source`` is the configuration's (an account's password), ``owner`` whose it is. Raises
        ``no-secret`` where nothing gives it and no person can be asked.
        """
        key = (name, owner)
        with self._asking:  # several connections may want the same at a time
            if key not in self._known:
                secret = self.given(name, source, owner=owner)
                if secret is None:
                    secret = self._ask(name, owner, new=False)
                    self._said_once.add(key)
                self._known[key] = secret
        return self._known[key]

    def forget(self, name: str, *, owner: str = "") -> None:
        """Have a secret used again, if it was refused, and read anew where its source can be."""
        self.refused.pop((name, owner), None)
        with self._asking:
            if (name, owner) not in self._said_once:
                self._known.pop((name, owner), None)

    def new(self, name: str, source: SecretSource | None = None, *, owner: str = "") -> bytes:
        """A secret to be set: given like any other, else asked for twice. Raises ``no-secret``."""
        given = self.given(name, source, owner=owner)
        value = self._ask(name, owner, new=True) if given is None else given
        if not value:
            raise MedmailError("no-secret", secret=name, variable=_variable(name))
        self._known[name, owner] = value
        return value

    def given(self, name: str, source: SecretSource | None = None, *, owner: str = "") -> bytes | None:
        """The secret ``name`` as far as it is given without asking, else None."""
        coredumps.off()
        if (name, owner) in self._known:
            return self._known[name, owner]
        if name in self._descriptors:
            return self._from_descriptor(name, self._descriptors.pop(name), owner)
        if name in self._files:
            secret = self._from_file(name, self._files[name])
            if str(self._files[name]) == "-":
                self._keep_once(name, owner, secret)
            return secret
        if variable := os.environ.get(_variable(name)):
            return self._from_file(name, Path(variable))
        source = source or self._config().secrets.get(name) or SecretSource()
        if source.file is not None:
            return self._from_file(name, source.file)
        if source.command is not None:
            from medmail_cli.devices.programs import secret_command

            return secret_command(source.command)
        if credentials := os.environ.get("CREDENTIALS_DIRECTORY"):
            path = Path(credentials) / f"medmail-{name}"
            if path.is_file():
                return self._from_file(name, path)
        if self._config().keyring:
            from medmail_cli.devices.keyring import desktop_secret

            return desktop_secret(name, owner)
        return None

    def is_offered(self, name: str, source: SecretSource) -> bool:
        """Whether ``source``, an option or the environment says where the secret ``name`` is."""
        given = (*self._files, *self._descriptors)
        return source != SecretSource() or name in given or _variable(name) in os.environ

    def _from_file(self, name: str, path: Path) -> bytes:
        if str(path) == "-":
            return _first_line(self._stdin(f"--{name}-file"))
        try:
            path = path_of(str(path))
            value = _first_line(path.read_bytes())
        except MedmailError as error:
            raise MedmailError(
                "secret-unreadable", secret=name, path=str(path), detail=error.facts["reason"]
            ) from None
        except OSError as error:
            raise MedmailError(
                "secret-unreadable", secret=name, path=str(path), detail=error.strerror or ""
            ) from None
        from medmail_cli.store.files import others_can_read

        if others_can_read(path):
            self._note(Note("secret-readable", {"secret": name, "path": str(path)}))
        return value

    def _from_descriptor(self, name: str, descriptor: int, owner: str) -> bytes:
        if descriptor == 0:
            value = _first_line(self._stdin(f"--{name}-fd"))
        else:
            try:
                with os.fdopen(descriptor, "rb") as stream:
                    value = _first_line(stream.read())
            except OSError as error:
                raise MedmailError(
                    "secret-unreadable", secret=name, path=f"fd {descriptor}", detail=error.strerror or ""
                ) from None
        self._keep_once(name, owner, value)
        return value

    def _keep_once(self, name: str, owner: str, value: bytes) -> None:
        self._known[name, owner] = value
        self._said_once.add((name, owner))

    def _ask(self, name: str, owner: str, *, new: bool) -> bytes:
        if not self._can_ask():
            raise MedmailError("no-secret", secret=name, variable=_variable(name))
        from medmail_cli.ui import i18n, prompt

        label = i18n.secret_label(name, owner, new=new)
        return prompt.new_secret(label) if new else prompt.secret(label)


def _variable(name: str) -> str:
    return f"MEDMAIL_{name.upper().replace('-', '_')}_FILE"


def _first_line(data: bytes) -> bytes:
    """A secret as a file holds it: without the newline that editors add."""
    return data.removesuffix(b"\n").removesuffix(b"\r")
