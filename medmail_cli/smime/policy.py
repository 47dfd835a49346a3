"""What a profile and a person decide about the judging of letters."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Policy:
    """What the profile and the person decide of what is opened."""

    not_addressed: Literal["problem", "note"] = "note"
    unauthenticated_encryption: Literal["problem", "note"] = "note"
    domain_bound: bool = False
    """A certificate for a whole domain speaks for its mailboxes (Direct)."""
    delegates: frozenset[str] = frozenset()
    """Addresses that the user lets stand in Sender beside somebody else's From."""
    show_unverified: bool = False
    allow_weak: bool = False


DEFAULT_POLICY = Policy()
