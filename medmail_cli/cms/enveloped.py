"""EnvelopedData (RFC 5652 6) and AuthEnvelopedData (RFC 5083): reading and opening; ``encrypt`` writes."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC, GCM

from medmail_cli.cms import algorithms, ber, content, der
from medmail_cli.cms.agreement import derive_content_key
from medmail_cli.cms.encrypt import encrypt
from medmail_cli.cms.recipients import RecipientInfo, read_recipients, unwrap
from medmail_cli.errors import MedmailError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography import x509
    from cryptography.hazmat.primitives.ciphers import BlockCipherAlgorithm

    from medmail_cli.model import PrivateKey

__all__ = ["Decrypted", "EnvelopedData", "decrypt", "encrypt", "parse_enveloped"]

_RC2_KEY_SIZES = {160: 5, 120: 8, 58: 16}
"""RC2ParameterVersion (RFC 2268 6) → octets of the key."""
_NONCES = {"gcm": range(8, 65), "ccm": range(7, 14)}
"""Octets of a nonce: what cryptography takes for GCM, all that CCM knows (RFC 5084 3.1)."""
_MOST_ATTEMPTS = 8  # entries of one letter that may each cost us a decryption


@dataclass(frozen=True)
class EnvelopedData:
    """An encrypted layer as received: recipients, and what is needed to open it once a key is known.

    ``cipher`` is None if we do not know it; ``algorithm`` is its name ("aes-256-gcm") or dotted identifier.
    ``iv`` is the nonce or initialisation vector; ``tag`` and ``associated`` are empty unless authenticated;
    ``derivation`` is what the cipher's key is derived for (RFC 9709), None where it is the wrapped one.
    ``damaged`` says that what follows the recipients cannot be read: to whom an entry is, that looks like any
    other failure to open. ``tagless`` is the one damage that is told, a known fault of some senders: an
    authenticating cipher in plain EnvelopedData, which has no place for the tag (RFC 5084 1.1).
    """

    authenticated: bool
    recipients: tuple[RecipientInfo, ...]
    content_type: str
    cipher: algorithms.Cipher | None
    algorithm: str
    iv: bytes
    encrypted: memoryview
    tag: bytes = b""
    associated: bytes = b""
    derivation: bytes | None = None
    damaged: bool = False
    tagless: bool = False
    beside: bytes = b""
    """The attributes that nothing protects, as received; empty where there are none."""


@dataclass(frozen=True)
class Decrypted:
    """What an envelope held, and how: ``key_management`` as verdicts name it, whose key opened it.

    Content that is not ``authenticated`` (CBC) may be somebody else's choice: release it only under a trusted
    signature.
    """

    content: bytes
    algorithm: str
    authenticated: bool
    key_management: str
    certificate: "x509.Certificate"
    weak: bool = False
    """The cipher or the key wrap is one that is read only when that is asked for."""
    beside: bytes = b""
    """The envelope's attributes that nothing protects, as received; empty where there are none."""


def parse_enveloped(node: ber.Node) -> EnvelopedData:
    """Read a ContentInfo of type EnvelopedData or AuthEnvelopedData; nothing is decrypted.

    Raises MedmailError("malformed") where not even the recipients can be read.
    """
    authenticated = content.content_type(node) == "auth-enveloped-data"
    oid = algorithms.AUTH_ENVELOPED_DATA if authenticated else algorithms.ENVELOPED_DATA
    fields = content.content_of(node, oid).fields()
    version = fields.take(ber.INTEGER).integer()
    fields.maybe(0x80)  # originatorInfo: certificates that nothing needs
    recipients = read_recipients(fields.take(ber.SET))
    try:
        if authenticated and version != 0:
            raise ber.malformed("version")
        return (_authenticated if authenticated else _plain)(fields, recipients)
    except MedmailError as error:
        if error.code != "malformed":
            raise
        return EnvelopedData(authenticated, recipients, "", None, "", b"", memoryview(b""), damaged=True)


def _plain(fields: ber.Fields, recipients: tuple[RecipientInfo, ...]) -> EnvelopedData:
    content_type, algorithm, derivation, encrypted = _encrypted_content(fields.take(ber.SEQUENCE))
    beside = _raw(fields.maybe(0x81))
    fields.end()
    cipher = algorithms.CIPHERS.get(algorithm.oid)
    name = cipher.name if cipher else algorithm.oid
    if cipher and cipher.mode != "cbc":
        return EnvelopedData(
            False, recipients, content_type, None, name, b"", encrypted, damaged=True, tagless=True
        )
    cipher, iv = _cbc_parameters(cipher, algorithm) if cipher else (None, b"")
    return EnvelopedData(
        False, recipients, content_type, cipher, name, iv, encrypted, derivation=derivation, beside=beside
    )


def _raw(node: ber.Node | None) -> bytes:
    return bytes(node.raw) if node else b""


def _authenticated(fields: ber.Fields, recipients: tuple[RecipientInfo, ...]) -> EnvelopedData:
    content_type, algorithm, derivation, encrypted = _encrypted_content(fields.take(ber.SEQUENCE))
    attributes = fields.maybe(0x81)
    tag = bytes(fields.take().octets())
    beside = _raw(fields.maybe(0x82))
    fields.end()
    if attributes or content_type != algorithms.DATA:
        _check_content_type(attributes, content_type)
    # RFC 5083 2.2: the DER encoding with the universal SET OF tag, whatever was sent
    associated = der.canonical(attributes, der.SET) if attributes else b""
    cipher = algorithms.CIPHERS.get(algorithm.oid)
    if cipher is None:
        return EnvelopedData(
            True, recipients, content_type, None, algorithm.oid, b"", encrypted, tag, associated
        )
    if cipher.mode == "cbc" or algorithm.parameters is None:
        raise ber.malformed("content-encryption")
    if cipher.mode == "chacha20":
        nonce = _chacha20_parameters(algorithm.parameters, tag)
    else:
        nonce = _aes_parameters(algorithm.parameters, tag, _NONCES[cipher.mode])
    name = cipher.name
    return EnvelopedData(
        True,
        recipients,
        content_type,
        cipher,
        name,
        nonce,
        encrypted,
        tag,
        associated,
        derivation,
        beside=beside,
    )


def _aes_parameters(node: ber.Node, tag: bytes, nonces: range) -> bytes:
    """The nonce of GCMParameters or CCMParameters (RFC 5084 3), whose tag length must be that of the tag."""
    parameters = node.fields()
    nonce = bytes(parameters.take().octets())
    length = parameters.maybe(ber.INTEGER)
    parameters.end()
    if len(tag) != (length.integer() if length else 12) or not 12 <= len(tag) <= 16:
        raise ber.malformed("tag-length")
    if len(nonce) not in nonces:
        raise ber.malformed("nonce")
    return nonce


def _chacha20_parameters(node: ber.Node, tag: bytes) -> bytes:
    """AEADChaCha20Poly1305Nonce (RFC 8103 1): twelve octets."""
    nonce = bytes(node.octets())
    if len(nonce) != 12 or len(tag) != 16:
        raise ber.malformed("nonce")
    return nonce


def _check_content_type(attributes: ber.Node | None, content_type: str) -> None:
    """RFC 5083 2.1: contentType is an attribute unless the content is Data, and must agree where it is."""
    named: list[str] = []
    for attribute in attributes.elements() if attributes else ():
        fields = attribute.fields()
        if fields.take(ber.OID).oid() == algorithms.CONTENT_TYPE:
            named += (value.oid() for value in fields.take(ber.SET).elements())
    if named != [content_type] and (named or content_type != algorithms.DATA):
        raise ber.malformed("authenticated-attributes")


def _encrypted_content(node: ber.Node) -> tuple[str, algorithms.Algorithm, bytes | None, memoryview]:
    """EncryptedContentInfo: content type, cipher, what its key is derived for if it is, and the octets."""
    fields = node.fields()
    content_type = fields.take(ber.OID).oid()
    algorithm = algorithms.read(fields.take())
    derivation = None
    if algorithm.oid == algorithms.CEK_HKDF_SHA256:
        if algorithm.parameters is None:
            raise ber.malformed("content-encryption")
        algorithm = algorithms.read(algorithm.parameters)
        derivation = der.canonical(algorithm.node)
    encrypted = fields.take(0x80).octets(0x80)
    fields.end()
    return content_type, algorithm, derivation, encrypted


def _cbc_parameters(
    cipher: algorithms.Cipher, algorithm: algorithms.Algorithm
) -> tuple[algorithms.Cipher, bytes]:
    """The cipher with its key's size, which RC2 has in its parameters (RFC 3370 5.2), and the vector."""
    if algorithm.parameters is None:
        raise ber.malformed("content-encryption")
    block = 8 if cipher.weak else 16
    if cipher.name == "rc2-cbc":
        fields = algorithm.parameters.fields()
        version = fields.take(ber.INTEGER).integer()
        vector = fields.take().octets()
        fields.end()
        if version not in _RC2_KEY_SIZES:
            raise ber.malformed("rc2-version")
        cipher = cipher._replace(key_size=_RC2_KEY_SIZES[version])
    else:
        vector = algorithm.parameters.octets()
    if len(vector) != block:
        raise ber.malformed("initialisation-vector")
    return cipher, bytes(vector)


def decrypt(
    envelope: EnvelopedData,
    keys: "Sequence[tuple[x509.Certificate, PrivateKey]]",
    *,
    allow_weak: bool = False,
) -> Decrypted:
    """Open an envelope with the first of ``keys`` that an entry names and that fits.

    Nothing is returned before the tag (GCM) or the padding (CBC) is found right. Raises MedmailError:
    "unsupported-algorithm" or "weak-algorithm" (3DES and RC2 without ``allow_weak``) from what the envelope
    and the entries say openly, "no-key" if no entry names a key; after that nothing but "bad-tag", without
    facts but ``tagless``, the cipher's name where the envelope is: an entry that does not unwrap is replaced
    by random octets, so that all fails at the same place.
    What a key says that cannot be used at all is raised if no other opens the letter.
    """
    return decrypt_with_key(envelope, keys, allow_weak=allow_weak)[0]


def decrypt_with_key(
    envelope: EnvelopedData,
    keys: "Sequence[tuple[x509.Certificate, PrivateKey]]",
    *,
    allow_weak: bool = False,
) -> tuple[Decrypted, bytes]:
    """As :func:`decrypt`, with the key that the entry held, so that it can be wrapped anew."""
    named = [
        (recipient, certificate, key)
        for recipient in envelope.recipients
        for certificate, key in keys
        if recipient.id.names(certificate)
    ]
    if not named:
        raise MedmailError("no-key")
    cipher = envelope.cipher
    if cipher is None and not envelope.damaged:
        raise MedmailError("unsupported-algorithm", algorithm=envelope.algorithm)
    if not allow_weak:
        if cipher and cipher.weak:
            raise MedmailError("weak-algorithm", algorithm=envelope.algorithm)
        if all(recipient.weak for recipient, _, _ in named):
            raise MedmailError("weak-algorithm", algorithm="3des-wrap")
        named = [entry for entry in named if not entry[0].weak]
    unusable: MedmailError | None = None
    for recipient, certificate, key in named[:_MOST_ATTEMPTS]:
        try:
            # a damaged envelope asks for the key too: a card's reader sees no difference
            content_key = unwrap(recipient, key, cipher.key_size if cipher else 32)
        except MedmailError as error:  # a card that is not there: another key may open the letter
            unusable = unusable or error
            continue
        opened = None if cipher is None else _open(envelope, cipher, content_key)
        if cipher is not None and opened is not None:
            decrypted = Decrypted(
                content=opened,
                algorithm=envelope.algorithm,
                authenticated=envelope.authenticated,
                key_management=recipient.key_management(key.public_key),
                certificate=certificate,
                weak=cipher.weak or recipient.weak,
                beside=envelope.beside,
            )
            return decrypted, content_key
    if unusable is None and envelope.tagless:
        raise MedmailError("bad-tag", tagless=envelope.algorithm)
    raise unusable or MedmailError("bad-tag")


def _open(envelope: EnvelopedData, cipher: algorithms.Cipher, key: bytes) -> bytes | None:
    """The content under a key that may be a random one: None where the tag or the padding is wrong."""
    if envelope.derivation is not None:
        key = derive_content_key(key, envelope.derivation)
    return _OPEN[cipher.mode](envelope, cipher, key)


def _open_gcm(envelope: EnvelopedData, _: algorithms.Cipher, key: bytes) -> bytes | None:
    mode = GCM(envelope.iv, envelope.tag, min_tag_length=len(envelope.tag))
    decryptor = Cipher(AES(key), mode).decryptor()
    decryptor.authenticate_additional_data(envelope.associated)
    opened = decryptor.update(envelope.encrypted)
    try:
        decryptor.finalize()
    except InvalidTag:
        return None
    return opened


def _open_ccm(envelope: EnvelopedData, _: algorithms.Cipher, key: bytes) -> bytes | None:
    from cryptography.hazmat.primitives.ciphers.aead import AESCCM

    sealed = b"".join((envelope.encrypted, envelope.tag))
    try:
        return AESCCM(key, len(envelope.tag)).decrypt(envelope.iv, sealed, envelope.associated)
    except (InvalidTag, ValueError):  # an odd length of the tag; more content than the nonce leaves room for
        return None


def _open_chacha20(envelope: EnvelopedData, _: algorithms.Cipher, key: bytes) -> bytes | None:
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    sealed = b"".join((envelope.encrypted, envelope.tag))
    try:
        return ChaCha20Poly1305(key).decrypt(envelope.iv, sealed, envelope.associated)
    except InvalidTag:
        return None


def _open_cbc(envelope: EnvelopedData, cipher: algorithms.Cipher, key: bytes) -> bytes | None:
    block = len(envelope.iv)
    if not envelope.encrypted or len(envelope.encrypted) % block:
        return None
    opened = _decrypt_cbc(envelope, cipher, key)
    padding = opened[-1]
    if not 1 <= padding <= block or opened[-padding:] != bytes([padding]) * padding:
        return None
    return opened[:-padding]


def _decrypt_cbc(envelope: EnvelopedData, cipher: algorithms.Cipher, key: bytes) -> bytes:
    if cipher.name == "rc2-cbc" and cipher.key_size < 16:
        from medmail_cli.cms import rc2

        return rc2.decrypt_cbc(key, 8 * cipher.key_size, envelope.iv, envelope.encrypted)
    return Cipher(_block_cipher(cipher, key), CBC(envelope.iv)).decryptor().update(envelope.encrypted)


_OPEN = {"gcm": _open_gcm, "ccm": _open_ccm, "chacha20": _open_chacha20, "cbc": _open_cbc}


def _block_cipher(cipher: algorithms.Cipher, key: bytes) -> "BlockCipherAlgorithm":
    if not cipher.weak:
        return AES(key)
    from cryptography.hazmat.decrepit.ciphers.algorithms import RC2, TripleDES

    return RC2(key) if cipher.name == "rc2-cbc" else TripleDES(key)
