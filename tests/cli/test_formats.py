"""``--format csv``: what is listed, as a spreadsheet reads it."""

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medmail_cli.registers import FORMATS
from medmail_cli.ui.formats import csv as csv_format
from tests.support import pki
from tests.support.cli import medmail

LISTS = (("inbox",), ("contacts", "list"), ("outbox", "list"), ("keys", "list"), ("audit", "log"))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Somebody who trusts an authority and knows two people, one of whom would calculate."""
    path, root = tmp_path / "home", pki.make_ca("Order Root")
    (tmp_path / "root.pem").write_bytes(pki.pem(root.certificate))
    assert medmail(path, "trust", "add", tmp_path / "root.pem").exit == 0
    for address in ("a@medecin.test", "=1+1@medecin.test"):
        certificate = pki.issue(root, address, name="Dr Élise, “A”", key_type="p256")[0]
        (tmp_path / "one.pem").write_bytes(pki.pem(certificate))
        assert medmail(path, "contacts", "add", tmp_path / "one.pem").exit == 0
    return path


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


@pytest.mark.parametrize("words", LISTS, ids=" ".join)
def test_a_list_is_the_same_in_csv_as_in_json(home: Path, words: tuple[str, ...]) -> None:
    done = medmail(home, *words, "--format", "csv")
    listed = [one for one in medmail(home, *words, "--format", "json").objects if one["type"] != "result"]
    found = rows(done.stdout)
    assert (done.exit, done.stderr, len(found)) == (0, "", len(listed))
    for row, one in zip(found, listed, strict=True):
        assert [key for key in one if key not in ("type", *row) and not isinstance(one[key], dict)] == []
        for key in row.keys() & one.keys():
            if isinstance(one[key], str):
                assert row[key].removeprefix("'") == one[key]
            elif isinstance(one[key], int):
                assert row[key] == json.dumps(one[key])
    assert done.stdout.count("\r\n") == done.stdout.count("\n")


def test_no_cell_of_a_stranger_is_a_formula(home: Path) -> None:
    listed = rows(medmail(home, "contacts", "list", "--format", "csv").stdout)
    assert {row["address"] for row in listed} == {"a@medecin.test", "'=1+1@medecin.test"}
    assert "Élise" in json.loads(listed[0]["certificates"])[0]["subject"]


def test_json_and_another_format_exclude_each_other(home: Path) -> None:
    both = medmail(home, "contacts", "list", "--json", "--format", "csv")
    assert (both.exit, both.objects[-1]["code"]) == (2, "usage")
    assert medmail(home, "contacts", "list", "--json", "--format", "json").exit == 0
    unknown = medmail(home, "contacts", "list", "--format", "xml")
    assert unknown.exit == 2
    assert all(name in unknown.stderr for name in FORMATS)


@given(st.text())
def test_a_cell_begins_no_formula_and_breaks_no_line(text: str) -> None:
    cell = csv_format._cell(text)
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert len(cell.splitlines()) <= 1
    if text.isalnum() and text.isascii():
        assert cell == text
