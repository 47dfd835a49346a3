"""Lists from which several rooms derive: languages, formats, ways to log in, protocols of enrolment.

To add one is its line here and its implementation: a catalogue in ``locale/``, a module of ``ui.formats``,
a mechanism in ``transport.sasl``, a module ``wiring.authority_<name>`` that reaches an authority. Codes are
in ``codes``, kinds of keys in ``workflows.enrol.key_kinds``, content ciphers and signature schemes in
``model``.
"""

from typing import Literal, NamedTuple

LANGUAGES = ("en", "fr")
"""Those medmail speaks; the first needs no catalogue."""


FORMATS = ("text", "json", "csv")
"""How output is written, each a module of ``ui.formats``; csv where things are listed."""


class Mechanism(NamedTuple):
    """A SASL mechanism: what it proves oneself by, and which of several of that kind is tried first."""

    needs: Literal["password", "token", "certificate"]
    rank: int


MECHANISMS = {
    "plain": Mechanism("password", 2),
    "login": Mechanism("password", 3),
    "scram-sha-256": Mechanism("password", 1),
    "xoauth2": Mechanism("token", 2),
    "oauthbearer": Mechanism("token", 1),
    "external": Mechanism("certificate", 1),
}
"""What an account's ``auth`` may name beside ``auto`` (RFC 4616, 5802, 7677, 7628, 4422)."""


class EnrolmentProtocol(NamedTuple):
    """What an authority can do by how it is spoken to."""

    makes_keys: bool = False
    """It may make the key that encrypts (EST's serverkeygen, RFC 7030 §4.4)."""
    revokes: bool = False
    certifies_names: bool = True
    """Beside the address, a certificate may say more of its holder."""
    by_mail: bool = False
    """It proves an address by a mail that is to be answered (RFC 8823)."""
    same_answer: bool = False
    """To ask again for one key never leaves two valid certificates behind: what CMP has issued and nobody
    has confirmed is void; of ACME the order is kept."""


PROTOCOLS = {
    "est": EnrolmentProtocol(makes_keys=True),
    "cmp": EnrolmentProtocol(revokes=True, same_answer=True),
    "acme": EnrolmentProtocol(revokes=True, certifies_names=False, by_mail=True, same_answer=True),
}
"""How authorities are spoken to; the first where nothing is said."""

BY_HAND = "csr"
"""A request in a file: no protocol at all."""
