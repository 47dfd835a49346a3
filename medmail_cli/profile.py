"""Profiles: what a network demands, as data in ``profiles/`` or in a file of one's own."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from medmail_cli.errors import MedmailError
from medmail_cli.model import ContentCipher
from medmail_cli.toml import Table, read_toml


@dataclass(frozen=True)
class Profile:
    """What a network demands, as named switches (see the files in ``profiles/``)."""

    name: str = "generic"
    end_to_end: Literal["required", "when-possible", "off"] = "required"
    cipher: ContentCipher = "aes-256-gcm"
    weakest_cipher: ContentCipher = "aes-128-cbc"
    """The floor: a recipient who reads only less is not sent to."""
    post_quantum: bool = False
    certificates: Literal["one", "two"] = "one"
    """Whether one certificate signs and encrypts, or each has a key of its own."""
    signature: Literal["opaque", "detached"] = "opaque"
    rsa_signature: Literal["pkcs1v15", "pss"] = "pkcs1v15"
    rsa_encryption: Literal["pkcs1v15", "oaep"] = "pkcs1v15"
    wrapping: Literal["none", "message-rfc822"] = "none"
    outer_subject: str = "[...]"
    header_protection: bool = True
    smime_type_auth_enveloped: Literal["authEnveloped-data", "authenticated-enveloped-data"] = (
        "authEnveloped-data"
    )
    recipient_emails: bool = False
    """Whether a letter says under its signature whom it was sealed for (KIM)."""
    escrow: Path | None = None
    """The certificate of an organisation that gets a copy of every key that only encrypts."""
    revocation: Literal["hard", "soft"] = "soft"
    unauthenticated_encryption: Literal["problem", "note"] = "note"
    not_addressed: Literal["problem", "note"] = "note"
    domain_bound_certificates: bool = False
    request_dsn: bool = True
    whitelist: Path | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    wanted_headers: tuple[str, ...] = ()
    """Fields that the network wants in each letter, and whose values are each user's."""


PROFILES = Path(__file__).parent / "profiles"
"""The folder of those that come along."""


def names() -> list[str]:
    """The names of the profiles that come along."""
    return sorted(path.stem for path in PROFILES.glob("*.toml"))


_OWN = frozenset(
    {
        "from",
        "sender",
        "to",
        "cc",
        "bcc",
        "subject",
        "date",
        "message-id",
        "in-reply-to",
        "references",
        "reply-to",
    }
)
"""Fields that a letter has of itself; MIME's own are those that begin with ``content-``."""


def headers(group: Table) -> dict[str, str]:
    """The fields of a table ``headers``, to be added to every letter. Raises ``bad-config``."""
    added: dict[str, str] = {}
    for name in list(group.values):
        value = group.take(name, str)
        own = name.lower() in _OWN or name.lower().startswith(("content-", "mime-version", "hp-"))
        if own or not re.fullmatch(r"[!-9;-~]{1,70}", name):
            group.fail(name, "not-a-header")
        if not value or not value.isprintable() or len(value) > _LONGEST_VALUE:
            group.fail(name, "not-a-header-value")
        added[name] = value
    group.end()
    return added


_LONGEST_VALUE = 500


def load(name: str) -> Profile:
    """One of the profiles that come along, or that in a file of one's own. Raises ``bad-config``."""
    path = Path(name) if name.endswith(".toml") or "/" in name else PROFILES / f"{name}.toml"
    if not path.exists():
        known = ", ".join(names())
        raise MedmailError(
            "bad-config", path=str(path), line=1, key="profile", reason="not-one-of", expected=known
        )
    text, values = read_toml(path)
    table = Table(path, text, "", values)
    taken: dict[str, Any] = {"name": path.stem}
    for switch in fields(Profile):
        if switch.name == "name":
            continue
        key = switch.name.replace("_", "-")
        if switch.name in ("whitelist", "escrow"):
            value: Any = table.take_path(key)
        elif switch.name == "headers":
            value = None if (group := table.table(key)) is None else headers(group)
        elif switch.name == "wanted_headers":
            value = table.take(key, list)
            value = None if value is None else tuple(value)
        elif switch.type is bool:
            value = table.take(key, bool)
        else:
            value = table.take(key, str, None, getattr(switch.type, "__args__", ()))
        if value is not None:
            taken[switch.name] = value
    if taken.get("escrow") and taken.get("certificates") != "two":
        # a key that signs too is nobody's but its holder's
        table.fail("certificates", "not-one-of", expected="two")
    table.end()
    return Profile(**taken)
