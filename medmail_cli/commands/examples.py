"""The end of each command's help: what one types. The tests type every line of it."""

from medmail_cli.ui.words import _


def examples(*lines: str) -> str:
    """A command's epilog: a heading in the person's language, then command lines as they stand."""
    return "\n".join((_("Examples:"), *lines))
