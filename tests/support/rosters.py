"""Rosters and the registrar who enrols them."""

import csv
import io
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from medmail_cli.sandbox.operator import Operator
from medmail_cli.workflows.batch.roster import luhn
from tests.support.cli import Done, medmail, passphrase

COLUMNS = ("address", "name", "rpps", "profession", "organisation", "group", "role", "floor")


def rpps(number: int) -> str:
    """The RPPS with that number: ten digits and their key."""
    return next(text for key in range(10) if luhn(text := f"{10**9 + number}{key}"))


def person(number: int, **changes: str) -> dict[str, str]:
    """A row that is right."""
    return {
        "address": f"p{number}@medecin.test",
        "name": f"Dr Élise P{number}",
        "rpps": rpps(number),
        "profession": "médecin",
        "organisation": "CHU",
        "group": f"g{number % 3}",
        "role": "",
        "floor": str(number % 2),
    } | changes


def roster(path: Path, rows: Iterable[Mapping[str, str]]) -> Path:
    """A roster with these rows."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    path.write_text(text.getvalue(), "utf-8")
    return path


def registrar(folder: Path, operator: Operator) -> Path:
    """The home of the sandbox's registrar, who may ask for anybody's certificate."""
    home = operator.home("registrar@medecin.test", folder / "registrar")
    passphrase(home)
    return home


def use_profile(home: Path, text: str) -> None:
    """Have the registrar work under a profile of these switches."""
    (home / "own.toml").write_text(text)
    config = (home / "config.toml").read_text()
    (home / "config.toml").write_text(f'profile = "./own.toml"\n{config}')


def enrol(home: Path, path: Path, *options: str | Path) -> Done:
    """``enrol batch`` with keys that take no time."""
    return medmail(home, "enrol", "batch", path, "--key", "p256", "--json", *options)


def rows(done: Done) -> dict[str, dict[str, Any]]:
    """The rows of a run, by address."""
    return {one["address"]: one for one in done.objects if one["type"] == "enrolment"}


def report(path: Path) -> list[dict[str, Any]]:
    """A report's lines."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def environment(home: Path) -> dict[str, str]:
    """What a bare process needs to run as :func:`tests.support.cli.medmail` does."""
    around = {name: value for name, value in os.environ.items() if not name.startswith("MEDMAIL_")}
    file = home.parent / f"{home.name}.passphrase"
    return around | {"MEDMAIL_HOME": str(home), "MEDMAIL_PASSPHRASE_FILE": str(file)}
