"""What an entity is, by its labels alone: a layer, a signature beside one, a wrapped message.

Software on the way renames what it does not know, so names of files count where types were lost.
"""

from medmail_cli.errors import MedmailError
from medmail_cli.smime.fields import Field
from medmail_cli.smime.header import addresses, mailboxes
from medmail_cli.smime.mime import Entity

CMS_TYPES = {
    "application/pkcs7-mime",
    "application/x-pkcs7-mime",
    "application/pkcs7",
    "application/x-pkcs7",
    "application/cms",  # RFC 7193
}
_SIGNATURE_TYPES = {"application/pkcs7-signature", "application/x-pkcs7-signature"}


def is_cms(entity: Entity) -> bool:
    """Whether the body is a structure of CMS (RFC 8551 §3.10)."""
    if entity.content_type in CMS_TYPES:
        return True
    kept = entity.content_type == "application/octet-stream" and "smime-type" in entity.parameters
    return kept or _is_file(entity, (".p7m", ".p7z"))


def is_signature(entity: Entity) -> bool:
    """Whether the body is a detached signature (RFC 8551 §3.5.3.1)."""
    return entity.content_type in _SIGNATURE_TYPES or _is_file(entity, (".p7s",))


def is_multipart_signed(entity: Entity, *, renamed: bool = True) -> bool:
    """Whether there is content and a signature over it, and nothing else (RFC 1847 §2.1).

    ``renamed``: under the name of a multipart/mixed too. Raises ``malformed``.
    """
    if renamed and entity.content_type == "multipart/mixed":
        # software that did not know the type may have renamed it: content and signature alone are the same
        return (
            len(entity.children) == 2
            and is_signature(entity.children[1])
            and not _is_of_a_file(entity.children[1])
        )
    if entity.content_type != "multipart/signed":
        return False
    protocol = entity.parameters.get("protocol", "").lower()
    if protocol and protocol not in _SIGNATURE_TYPES:
        return False
    if len(entity.children) < 2:
        raise MedmailError("malformed", what="message", reason="multipart-signed")
    # with a third part beside them the signature no longer covers everything
    if len(entity.children) != 2:
        return False
    # what it is said to be around may have lost its label, and its name, on the way
    unlabelled = entity.children[1].content_type in ("application/octet-stream", *CMS_TYPES)
    return is_signature(entity.children[1]) or (bool(protocol) and unlabelled)


def is_wrapped(entity: Entity) -> bool:
    """Whether the content is a message that was wrapped to protect its header (RFC 8551 §3.1).

    Where the header around it is protected it is a message that somebody passes on (RFC 9788 §4.10.1).
    """
    return entity.content_type in ("message/rfc822", "message/global") and "hp" not in entity.parameters


def is_passed_on(message: Entity, outer: tuple[Field, ...]) -> bool:
    """Whether a message that is all there is in a layer is somebody else's, and not the letter itself.

    It is where it has layers or a protected header of its own (RFC 9788 §4.10.1), and another sender.
    """
    layered = is_cms(message) or message.content_type == "multipart/signed"
    inside, outside = (addresses(mailboxes(fields, "from")) for fields in (message.fields, outer))
    return (layered or "hp" in message.parameters) and bool(outside) and inside != outside


def _is_file(entity: Entity, endings: tuple[str, ...]) -> bool:
    """Whether somebody's mail program did not know what it sent, and only the name tells."""
    main, _, _ = entity.content_type.partition("/")
    return main == "application" and (entity.filename or "").lower().endswith(endings)


def _is_of_a_file(signature: Entity) -> bool:
    """Whether a signature is called after a document (``report.pdf.p7s``), which is then what it is over."""
    return "." in (signature.filename or "").lower().removesuffix(".p7s")
