"""Every sentence for people, in English here and in French in ``locale/``; codes are never translated.

``ERRORS`` gives each error code its message and its hint, ``NOTES`` each note, ``QUESTIONS`` each
confirmation. Placeholders are the facts of the error.
"""

import gettext
import os
from pathlib import Path

from medmail_cli.errors import MedmailError
from medmail_cli.model import Note
from medmail_cli.registers import LANGUAGES
from medmail_cli.ui import sanitize
from medmail_cli.ui.error_messages import ERRORS
from medmail_cli.ui.messages import N_, NOTES, QUESTIONS, REASONS, SECRETS, THINGS

_LOCALE = Path(__file__).parent.parent / "locale"


def set_language(lang: str) -> None:
    """Speak ``lang`` from here on; the command library's own words follow, as they ask gettext too."""
    os.environ["LANGUAGE"] = lang
    gettext.textdomain("medmail")
    gettext.bindtextdomain("medmail", str(_LOCALE))


def locale_language() -> str:
    """The language of the environment (POSIX precedence), English where it is neither."""
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if value := os.environ.get(name):
            return next((lang for lang in LANGUAGES if value.lower().startswith(lang)), LANGUAGES[0])
    return LANGUAGES[0]


def _(sentence: str) -> str:
    """``sentence`` in the language of this run."""
    return gettext.gettext(sentence) if sentence else ""


def _shown(value: object) -> str:
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(sanitize.line(item) for item in value)
    return sanitize.line(value)


def _fill(sentence: str, facts: dict[str, object]) -> str:
    shown = {name: _shown(value) for name, value in facts.items()}
    reason = facts.get("reason")
    if isinstance(reason, str) and reason in REASONS:
        shown["reason"] = _fill(REASONS[reason], {k: v for k, v in facts.items() if k != "reason"})
    if (what := facts.get("what")) in THINGS:
        shown["what"] = _(str(what))
    return _(sentence).format_map(_Facts(shown))


class _Facts(dict[str, str]):
    """Facts by name; one that was not given shows as nothing rather than failing the message."""

    def __missing__(self, key: str) -> str:
        return ""


def message(error: MedmailError) -> str:
    """What happened."""
    return _fill(ERRORS[error.code][0], error.facts)


def hint(error: MedmailError) -> str:
    """What to do about it, or nothing."""
    advice = _fill(ERRORS[error.code][1], error.facts)
    if "kept" in error.facts:
        kept = _fill(N_("what you wrote is kept in {kept}"), error.facts)
        return f"{kept}; {advice}" if advice else kept
    return advice


def note(event: Note) -> str:
    """A note's sentence."""
    facts: dict[str, object] = dict(event.facts)
    if event.code == "watch-interrupted":
        # it holds the facts of the error, too
        facts["error"] = message(MedmailError(str(facts["error"]), **facts))
    return _fill(NOTES[event.code], facts)


def question(code: str, facts: dict[str, object]) -> str:
    """A question's sentence."""
    return _fill(QUESTIONS[code], facts)


def secret_label(name: str, owner: str, *, new: bool) -> str:
    """What the prompt for a secret says."""
    label = _(SECRETS[name])
    if new:
        label = _("{secret} (new)").format(secret=label)
    return f"{label} ({sanitize.line(owner)})" if owner else label
