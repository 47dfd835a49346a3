"""``medmail reply`` for people: what became of the answer."""

from medmail_cli.ui.views.send import recipient, retried

__all__ = ["recipient", "retried"]
