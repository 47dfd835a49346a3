"""CONTRIBUTING.md tells the truth about where things are."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
CHANGES = re.findall(r"^\| ([^|]+) \| (`[^|]+`) \|$", TEXT, re.MULTILINE)


def test_there_are_the_commonest_changes() -> None:
    assert len(CHANGES) >= 20


@pytest.mark.parametrize(("change", "files"), CHANGES, ids=[change for change, _ in CHANGES])
def test_a_change_belongs_into_files_that_exist(change: str, files: str) -> None:
    named = re.findall("`([^`]+)`", files)
    assert named
    assert [file for file in named if not (ROOT / file).is_file()] == []


def test_every_file_that_is_named_exists() -> None:
    """With its folder it stands in the package, at the top, or in the tests."""
    named = {name for name in re.findall("`([a-z_0-9/]+\\.[a-z]+)`", TEXT) if "/" in name}
    places = (ROOT, ROOT / "medmail_cli", ROOT / "medmail_cli" / "transport")
    assert len(named) > 30
    assert {name for name in named if not any((place / name).is_file() for place in places)} == set()


def test_every_room_is_on_the_page() -> None:
    package = ROOT / "medmail_cli"
    rooms = {path.parent.name for path in package.rglob("__init__.py")} - {"medmail_cli", "views"}
    assert {room for room in rooms if f"{room}/" not in TEXT} == set()
