"""Which messages a search means."""

import unicodedata
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medmail_cli.store.mail.outer_index import Stored


_TYPED = str.maketrans({"œ": "oe", "æ": "ae", "ø": "o", "ł": "l", "đ": "d", "\u2019": "'", "\u2018": "'"})
"""Letters and signs, and how they are typed."""


def matches(stored: "Stored", learned: Mapping[str, Any], query: str, sender: str) -> bool:
    """Do all words of ``query`` occur in a message, and all of ``sender`` in whom it is from?

    ``learned`` is what was found inside, empty where that is not known. Neither case nor accents count.
    """
    senders = [stored.from_, *_strings(learned.get("from"))]
    inside = [text for value in learned.values() for text in _strings(value)]
    everything = [*senders, stored.to, stored.subject, stored.message_id, *inside]
    return _all_in(sender, senders) and _all_in(query, everything)


def _strings(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _all_in(words: str, texts: Sequence[str]) -> bool:
    where = _folded("\n".join(texts))
    return all(word in where for word in _folded(words).split())


def _folded(text: str) -> str:
    """For comparing without case, accents and joined letters: who types Rene or coeur means René, cœur."""
    decomposed = unicodedata.normalize("NFKD", text.casefold().translate(_TYPED))
    return "".join(char for char in decomposed if not unicodedata.combining(char))
