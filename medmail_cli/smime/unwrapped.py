"""A message without its layers, and the signature that covers its content."""

from dataclasses import dataclass
from functools import cached_property

from medmail_cli.cms.enveloped import Decrypted
from medmail_cli.cms.signerinfo import SignedData
from medmail_cli.cms.verify import Content
from medmail_cli.errors import MedmailError
from medmail_cli.smime import mime
from medmail_cli.smime.fields import Field
from medmail_cli.smime.mime import Entity
from medmail_cli.smime.verdict import Layer


@dataclass(frozen=True)
class SignatureLayer:
    """A signature and the octets it is over, as received; ``signed`` is None where it cannot be read."""

    signed: SignedData | None
    over: bytes | memoryview
    detached: bool
    depth: int
    """How many layers there are down to this one, itself included."""
    repairable: bool = True

    @cached_property
    def content(self) -> Content:
        """The octets with their digests."""
        return Content(self.over)

    @cached_property
    def repairs(self) -> tuple[Content, ...]:
        """The same with the line ends that a signer may have meant.

        CRLF, as RFC 8551 §3.1.1 has it; LF, as those sign who leave that out and whose letter got its CRLF
        on the way. A signature that is opaque or repaired already has no others.
        """
        if not self.detached or not self.repairable:
            return ()
        octets = bytes(self.over)
        meant = mime.canonical(octets)
        return tuple(Content(form) for form in (meant, meant.replace(b"\r\n", b"\n")) if form != octets)


@dataclass(frozen=True)
class Unwrapped:
    """A message without its layers.

    ``payload`` is the content's root (the wrapped message's where there is one), None after a
    ``failure``. ``signature`` is the innermost that covers all the content.
    """

    outer: tuple[Field, ...]
    layers: tuple[Layer, ...]
    payload: Entity | None
    signature: SignatureLayer | None = None
    decrypted: Decrypted | None = None
    """The encryption, without its content; of several the one to be trusted least."""
    failure: MedmailError | None = None
    encryption_failed: bool = False
    repaired: bool = False
    """Line ends were not as they had been sent, and were put right."""
