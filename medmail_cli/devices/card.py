"""A card or other PKCS#11 token (OASIS PKCS#11 3.0): logging in to it, reading it, leaving it.

A token is logged in to once a run, when one of its keys is first used, and logged out of at the end of the
run, however it ends. A PIN is a thing of few tries, so a run tries at most one on a token, none where the
token says that the next wrong one locks it, and none that this token has refused before.
"""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, Protocol, TypeVar

from cryptography import x509

from medmail_cli.cms.certificates import UNREADABLE, load
from medmail_cli.devices.cardobjects import attribute
from medmail_cli.errors import MedmailError

if TYPE_CHECKING:
    import pkcs11

Pin = Callable[[str], bytes]
"""Gives the PIN of the token of that label."""

_MOST_CERTIFICATES = 256
_LARGEST_CERTIFICATE = 64 * 1024


class Refused(Protocol):
    """What remembers the PINs that a token has refused, from run to run, in the file ``path``."""

    path: Path

    def held(self) -> contextlib.AbstractContextManager[None]:
        """While a PIN is tried: nobody else tries one meanwhile."""

    def knows(self, token: str, pin: bytes) -> bool:
        """Whether the token has refused this PIN."""

    def remember(self, token: str, pin: bytes) -> None:
        """The token has refused this PIN."""

    def forget(self, token: str) -> None:
        """The token has taken another PIN: what it refused is of no interest any more."""


_ALONE = threading.RLock()
P = ParamSpec("P")
T = TypeVar("T")


def alone(method: Callable[P, T]) -> Callable[P, T]:
    """One thread at a time: a session does one thing after the other (PKCS#11 5.2), and logs in once."""

    @functools.wraps(method)
    def waiting(*args: P.args, **kwargs: P.kwargs) -> T:
        with _ALONE:
            return method(*args, **kwargs)

    return waiting


class Card:
    """A token in its slot."""

    def __init__(
        self,
        module: str,
        token: "pkcs11.Token",
        pin: Pin,
        refused: Callable[[], Refused],
        report: Callable[[str], None],
    ) -> None:
        self.module = module
        self._token = token
        self._pin, self._refused, self._report = pin, refused, report
        self._session: pkcs11.Session | None = None
        self._had_keys = False
        self._failure: MedmailError | None = None

    @property
    def label(self) -> str:
        """The token's label, whoever wrote it."""
        return self._token.label

    @property
    def serial(self) -> str:
        """The token's serial number."""
        return self._token.serial.decode("utf-8", "replace").strip()

    def mechanisms(self) -> "set[pkcs11.Mechanism]":
        """What the token can do."""
        return self._token.slot.get_mechanisms()

    @alone
    def certificates(self) -> list[tuple[bytes, x509.Certificate]]:
        """The certificates on the card as far as it shows them now, each with its CKA_ID, if it has one."""
        import pkcs11
        from pkcs11 import Attribute, CertificateType, ObjectClass

        certificates = []
        wanted = {
            Attribute.CLASS: ObjectClass.CERTIFICATE,
            Attribute.CERTIFICATE_TYPE: CertificateType.X_509,
        }
        try:
            with self._reading() as session:
                for number, card_object in enumerate(session.get_objects(wanted)):
                    if number >= _MOST_CERTIFICATES:
                        break
                    value = attribute(card_object, Attribute.VALUE)
                    key_id = attribute(card_object, Attribute.ID)
                    if len(value) <= _LARGEST_CERTIFICATE:
                        with contextlib.suppress(*UNREADABLE):  # nobody else could read it either
                            certificates.append((key_id, load(value)))
        except pkcs11.PKCS11Error as error:
            raise self.failed(error) from None
        return list(dict.fromkeys(certificates))

    @contextlib.contextmanager
    def _reading(self) -> "Iterator[pkcs11.Session]":
        """The session that is logged in, else one that sees what is public."""
        if self._session is not None:
            yield self._session
            return
        session = self._token.open()
        try:
            yield session
        finally:
            session.close()

    @alone
    def session(self) -> "pkcs11.Session":
        """The session, logged in; what went wrong with it once goes wrong again without another try.

        Raises ``wrong-pin``, ``pin-locked``, ``pin-last-try``, ``pin-unset``, ``pin-refused-before``,
        ``card-absent``, ``card-failed``, and what asking for the PIN raises.
        """
        import pkcs11

        if self._failure is not None:
            raise self._failure
        if self._session is None:
            try:
                self._session = self._login()
                self._had_keys = self._has_keys(self._session)
            except pkcs11.PKCS11Error as error:
                raise self.failed(error) from None
            except MedmailError as error:
                self._failure = error
                if error.code in ("wrong-pin", "pin-locked"):
                    self._report(error.code)
                raise
        return self._session

    def _login(self) -> "pkcs11.Session":
        import pkcs11
        from pkcs11 import TokenFlag

        try:
            flags = self._token.slot.get_token().flags
            if not flags & TokenFlag.LOGIN_REQUIRED:
                return self._token.open()
        except pkcs11.PKCS11Error as error:
            raise self.failed(error) from None
        check_pin_flags(flags, self.label)
        if flags & TokenFlag.PROTECTED_AUTHENTICATION_PATH:
            return self._open(pkcs11.PROTECTED_AUTH)
        pin = self._pin(self.label)
        refused, name = self._refused(), f"{self.serial}\0{self.label}"
        with refused.held():
            if refused.knows(name, pin):
                raise MedmailError("pin-refused-before", label=self.label, path=str(refused.path))
            check_pin_flags(self._token.slot.get_token().flags, self.label)
            try:
                opened = self._open(_text(pin, self.label))
            except MedmailError as error:
                if error.code in ("wrong-pin", "pin-locked"):
                    refused.remember(name, pin)
                raise
            refused.forget(name)
            return opened

    def _open(self, pin: object) -> "pkcs11.Session":
        import pkcs11

        try:
            return self._token.open(user_pin=pin)
        except pkcs11.PKCS11Error as error:
            raise self.failed(error) from None

    def pin_again(self) -> str:
        """The PIN once more, for a key that wants it at each use; empty where the reader asks for it."""
        from pkcs11 import TokenFlag

        if self._token.flags & TokenFlag.PROTECTED_AUTHENTICATION_PATH:
            return ""
        return _text(self._pin(self.label), self.label)

    def failed(self, error: "pkcs11.PKCS11Error") -> MedmailError:
        """What an error of the token means."""
        return self.refusal(error) or self.absence() or self._failed(type(error).__name__)

    def refusal(self, error: "pkcs11.PKCS11Error") -> MedmailError | None:
        """What an error says of the PIN, if it does; the token is not asked again in this run."""
        import pkcs11

        refusals: dict[str, tuple[type[Exception], ...]] = {
            "wrong-pin": (pkcs11.PinIncorrect, pkcs11.PinInvalid, pkcs11.PinLenRange),
            "pin-locked": (pkcs11.PinLocked,),
            "pin-unset": (pkcs11.PinExpired, pkcs11.UserPinNotInitialized),
        }
        for code, kinds in refusals.items():
            if isinstance(error, kinds):
                self._failure = MedmailError(code, label=self.label)
                return self._failure
        return None

    def absence(self) -> MedmailError | None:
        """``card-absent`` if the card is no longer there."""
        return None if self.present() else MedmailError("card-absent", label=self.label)

    def no_such_key(self) -> MedmailError:
        """What to say where the key cannot be found."""
        return self.absence() or self._failed("no-such-key")

    def _failed(self, reason: str) -> MedmailError:
        return MedmailError("card-failed", label=self.label, reason=reason)

    @alone
    def present(self) -> bool:
        """Whether the token is still where it was, and the session with it where there is one."""
        import pkcs11

        try:
            token = self._token.slot.get_token()
            if (token.serial, token.label) != (self._token.serial, self._token.label):
                return False
            if self._session is None:
                return True
            # after a card came back, the login made before is void: its private keys are not shown to it
            return self._has_keys(self._session) or not self._had_keys
        except pkcs11.PKCS11Error:
            return False

    @staticmethod
    def _has_keys(session: "pkcs11.Session") -> bool:
        from pkcs11 import Attribute, ObjectClass

        return bool(list(session.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY})))

    def close(self) -> None:
        """Log out and leave; a card that has gone is left already."""
        import pkcs11

        session, self._session = self._session, None
        if session is not None:
            with contextlib.suppress(pkcs11.PKCS11Error):
                session.close()


def check_pin_flags(flags: int, label: str) -> None:
    """Refuse where a PIN cannot be right, or a wrong one would lock the card (CK_TOKEN_INFO, PKCS#11 3.2).

    Raises ``pin-locked``, ``pin-unset``, ``pin-last-try``.
    """
    from pkcs11 import TokenFlag

    if flags & TokenFlag.USER_PIN_LOCKED:
        raise MedmailError("pin-locked", label=label)
    if not flags & TokenFlag.USER_PIN_INITIALIZED:
        raise MedmailError("pin-unset", label=label)
    if flags & TokenFlag.USER_PIN_FINAL_TRY:
        raise MedmailError("pin-last-try", label=label)


def _text(pin: bytes, label: str) -> str:
    """A PIN as PKCS#11 has it, UTF-8. Raises ``wrong-pin`` for what can be none, without trying it."""
    try:
        text = pin.decode()
    except UnicodeDecodeError:
        text = ""
    if not text:
        raise MedmailError("wrong-pin", label=label)
    return text
