"""``medmail schema`` for people."""

import json
from typing import TYPE_CHECKING

from medmail_cli.ui.messages import N_
from medmail_cli.ui.render import Column

if TYPE_CHECKING:
    from collections.abc import Iterable

    from medmail_cli.ui.console import Console, Line
    from medmail_cli.workflows.schema import Schema

TABLES = {
    "code": (
        Column(N_("Code"), lambda code: code.code),
        Column(N_("Exit"), lambda code: code.leads_to),
        Column(N_("Meaning"), lambda code: code.message),
    )
}


def schema(event: "Schema", _console: "Console") -> "Iterable[Line]":
    yield from json.dumps(event.schema, indent=2, ensure_ascii=False).splitlines()
