"""Rosters: any usual file is read, and every fault is told with its line before anything is done."""

import contextlib
import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medmail_cli.errors import MedmailError
from medmail_cli.workflows.batch.roster import Fault, deliverable, luhn, read_roster

HEADER = "address,name,rpps,profession,organisation,group,role,floor\n"


def rpps(number: int) -> str:
    """The RPPS with that number: ten digits and their key."""
    return next(text for key in range(10) if luhn(text := f"{10**9 + number}{key}"))


def test_a_roster_in_any_order_with_columns_of_its_own() -> None:
    (row,), faults, *_columns = read_roster(
        f"floor,rpps,address,name\n2,{rpps(1)},dr.martin@medecin.test,Dr Martin\n".encode(), "r.csv"
    )
    assert faults == ()
    assert (row.line, row.address, row.name, row.rpps) == (2, "dr.martin@medecin.test", "Dr Martin", rpps(1))
    assert row.others == {"floor": "2"}


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize(
    "encoding",
    [
        "utf-8",
        "utf-8-sig",
        "utf-16",
        "utf-16-le",
        "utf-16-be",
        "utf-32",
        "cp1252",
        "latin-1",
        "mac-roman",
        "cp850",
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_usual_encodings_and_separators(separator: str, encoding: str, end: str) -> None:
    lines = ["Name;Address", '"Élodie ""Lo"" Dùrand";elodie@medecin.test', "", "Zoë;zoe@medecin.test"]
    (first, second), faults, *_columns = read_roster(
        end.join(lines).replace(";", separator).encode(encoding), "roster.csv"
    )
    assert faults == ()
    assert (first.name, second.name, second.line) == ('Élodie "Lo" Dùrand', "Zoë", 4)


@pytest.mark.parametrize(
    ("name", "encodings"),
    [
        ("Hélène Lefèvre", ("cp1252", "mac-roman", "cp850")),
        ("BÉRANGÈRE ÇELIK", ("cp1252", "mac-roman", "cp850")),
        ("Gaëlle Façon", ("cp1252", "mac-roman", "cp850")),
        ("André", ("cp1252", "mac-roman", "cp850")),
        ("Lucas SACRÉ-CŒUR", ("cp1252", "iso8859-15", "mac-roman")),
        ("Žižek-Müller", ("cp1252", "iso8859-15")),
        ("Jörg «Jo» D’Alès", ("cp1252", "mac-roman")),
    ],
)
def test_no_name_is_misread(name: str, encodings: tuple[str, ...]) -> None:
    for encoding in encodings:
        (row,), faults, *_columns = read_roster(f"address,name\na@b.test,{name}\n".encode(encoding), "r.csv")
        assert (row.name, faults) == (name, ()), encoding


def test_a_row_in_another_encoding_spoils_no_other() -> None:
    data = "address,name,note\na@b.test,Hélène,\nc@d.test,Zoë,\n".encode() + b"e@f.test,X,caf\xe9\n"
    found, (fault,), *_columns = read_roster(data, "r.csv")
    assert [row.name for row in found] == ["Hélène", "Zoë"]
    assert (fault.line, fault.column, fault.reason) == (4, "note", "bad-encoding")


def test_an_open_quotation_mark_swallows_no_row() -> None:
    text = 'address,name,note\na@b.test,"Dr A,\nb@b.test,Dr B,"two\nlines"\nnobody,C,\nd@b.test,"Dr D",\n'
    found, faults, *_columns = read_roster(text.encode(), "r.csv")
    assert [(row.line, row.name) for row in found] == [(3, "Dr B"), (6, "Dr D")]
    assert [(fault.line, fault.reason) for fault in faults] == [(2, "bad-quoting"), (5, "bad-address")]


def test_many_open_quotation_marks_take_no_time() -> None:
    begun = time.process_time()
    _found, faults, *_columns = read_roster(b"address,name\n" + b'x","z\n' * 30_000, "r.csv")
    assert len(faults) == 30_000
    assert time.process_time() - begun < 20


def test_excel_s_own_separator_line() -> None:
    (row,), faults, *_columns = read_roster(b"sep=;\r\naddress;name\r\na@b.test;x,y|z\r\n", "r.csv")
    assert (row.line, row.name, faults) == (3, "x,y|z", ())


def test_columns_that_mean_nothing_to_us_are_all_kept() -> None:
    (row,), _, *_columns = read_roster(b"address,note,note,,\na@b.test,1,2,3,\n", "r.csv")
    assert row.others == {"note": "1", "note (3)": "2", "(4)": "3", "(5)": ""}


@pytest.mark.parametrize("cell", ["1000123468.0", "751000001.00", "1,00012E+10", "1.000.123.468.0"])
def test_a_fault_shows_the_number_as_it_stands_in_the_file(cell: str) -> None:
    faults = read_roster(f"address;rpps\na@b.test;{cell}\n".encode(), "r.csv").faults
    assert [(one.reason, one.detail) for one in faults] == [("bad-rpps", cell)]


def test_digits_in_groups_are_the_same_number() -> None:
    number = rpps(7)
    for written in (
        f"{number[:2]} {number[2:5]} {number[5:]}",
        f"{number[:5]}\xa0{number[5:]}",
        f"8{number}",
    ):
        (row,), faults, _ = read_roster(f"address;rpps\na@b.test;{written}\n".encode(), "r.csv")
        assert (row.rpps, faults) == (number, ())


def test_fields_that_are_empty_at_the_end_may_be_too_many_or_missing() -> None:
    text = "address;name;group;role\na@b.test;A;g;r;;\nb@b.test;B\nc@b.test\n;;;;;;\n"
    rows, faults, _ = read_roster(text.encode(), "r.csv")
    assert [(row.address, row.name, row.role) for row in rows] == [
        ("a@b.test", "A", "r"), ("b@b.test", "B", ""), ("c@b.test", "", ""),
    ]  # fmt: skip
    assert faults == ()


def test_headings_as_people_write_them_are_understood_and_told_of() -> None:
    text = f"N° RPPS;Nom;Prénom;Adresse e-mail;Établissement;Étage\n{rpps(3)};DUPONT;Jeanne;j@b.test;CHU;3\n"
    (row,), faults, columns = read_roster(text.encode(), "r.csv")
    assert faults == ()
    assert (row.address, row.name, row.rpps) == ("j@b.test", "Jeanne DUPONT", rpps(3))
    assert (row.organisation, row.others) == ("CHU", {"Étage": "3"})
    assert columns is not None
    assert columns.read == {
        "address": ("Adresse e-mail",), "name": ("Nom", "Prénom"), "rpps": ("N° RPPS",),
        "organisation": ("Établissement",),
    }  # fmt: skip
    assert columns.kept == ("Étage",)
    assert read_roster(HEADER.encode(), "r.csv").columns is not None
    assert read_roster(b"role,address\n,a@b.test\n", "r.csv").columns is None


@pytest.mark.parametrize("begin", [b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"])
def test_a_spreadsheet_is_told_to_be_one(begin: bytes) -> None:
    with pytest.raises(MedmailError) as refused:
        read_roster(begin + random.Random(3).randbytes(3000), "r.xlsx")
    assert refused.value.code == "spreadsheet"


def test_an_identifier_of_another_register_is_no_rpps() -> None:
    text = "Adresse BAL|Type d'identifiant PP|Identifiant PP\na@b.test|0|759300123\nb@b.test|8|123\n"
    (row,), (fault,), *_columns = read_roster(text.encode(), "r.csv")
    assert (row.rpps, row.others) == ("", {"Type d'identifiant PP": "0", "Identifiant PP": "759300123"})
    assert (fault.line, fault.reason) == (3, "bad-rpps")


def test_the_annuaire_extraction() -> None:
    text = (
        "Type de BAL|Adresse BAL|Identifiant PP|Identification Nationale PP|Nom d'exercice|"
        "Prénom d'exercice|Libellé Profession|Libellé savoir-faire|Raison sociale structure BAL|\n"
        f"PER|jeanne.martin@medecin.mssante.fr|{rpps(7)}|8{rpps(7)}|MARTIN|JEANNE|Médecin|Cardiologie|CHU|\n"
    )
    (row,), faults, *_columns = read_roster(text.encode(), "extraction.txt")
    assert faults == ()
    assert (row.name, row.rpps, row.organisation) == ("JEANNE MARTIN", rpps(7), "CHU")
    assert (row.profession, row.role, row.others["Type de BAL"]) == ("Médecin", "Cardiologie", "PER")


@pytest.mark.parametrize(
    ("row", "column", "reason"),
    [
        (",Dr No,,,,,,", "address", "no-address"),
        ("dr.no(at)medecin.test,Dr No,,,,,,", "address", "bad-address"),
        ("dr.no@medecin,Dr No,,,,,,", "address", "bad-address"),
        ("a@medecin.test;b@medecin.test,Dr No,,,,,,", "address", "bad-address"),
        ("dr.no@medecin.test,Dr No,123,,,,,", "rpps", "bad-rpps"),
        (f"dr.no@medecin.test,Dr No,{int(rpps(1)) + 1},,,,,", "rpps", "rpps-key"),
        (f"dr.no@medecin.test,{'N' * 65},,,,,,", "name", "too-long"),
        ("dr.no@medecin.test,Dr\x07No,,,,,,", "name", "control-character"),
        ("Dr No", "address", "bad-address"),
        ("dr.no@medecin.test,Dr No,,,,,,,,x", None, "too-many-fields"),
        ("dr.no@medecin.test,Dr No,1000123468.0,,,,,", "rpps", "bad-rpps"),
        ("dr.no@medecin.test,Dr No,751000001.00,,,,,", "rpps", "bad-rpps"),
        ("dr.no@medecin.test,Dr No,1.00012E+10,,,,,", "rpps", "bad-rpps"),
        (f"dr.no@medecin.test,Dr No,{rpps(1)}.0,,,,,", "rpps", "bad-rpps"),
        ("FIRST@medecin.test,Dr No,,,,,,", "address", "duplicate-address"),
        ('dr.no@medecin.test,"Dr No,,,,,,', None, "bad-quoting"),
        ('dr.no@medecin.test,"Dr" No,,,,,,', None, "bad-quoting"),
    ],
)
def test_each_fault_is_told_with_its_line_and_column(row: str, column: str | None, reason: str) -> None:
    (right,), (fault,), *_columns = read_roster(
        f"{HEADER}first@medecin.test,Dr Un,,,,,,\n{row}".encode(), "r.csv"
    )
    assert right.address == "first@medecin.test"
    assert (fault.line, fault.column, fault.reason) == (3, column, reason)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", (1, "address", "column-missing")),
        ("name,rpps\nDr No,\n", (1, "address", "column-missing")),
        ("\n\nname,rpps\nDr No,\n", (3, "address", "column-missing")),
        ("address,name,Address\na@b.test,x,c@d.test\n", (1, "Address", "column-twice")),
        ('address,"name\na@b.test,x\n', (1, None, "bad-quoting")),
    ],
)
def test_a_header_that_cannot_be_used(text: str, fault: tuple[int, str | None, str]) -> None:
    rows, (told,), *_columns = read_roster(text.encode(), "r.csv")
    assert rows == ()
    assert (told.line, told.column, told.reason) == fault


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_a_row_with_octets_of_no_text_spoils_no_other(encoding: str) -> None:
    people = [f"p{n}@b.test;Zoé P{n};" for n in range(5)]
    people[1] = "p1@b.test;Zo\0;"
    people[2] = "p2@b;Zoé;"
    people[3] = "p3@b.test;Zoé;a\0b"
    text = "\r\n".join(["address;name;note", *people, ""])
    rows, faults, *_columns = read_roster(text.encode(encoding), "r.csv")
    assert [row.line for row in rows] == [2, 6]
    assert [row.name for row in rows] == ["Zoé P0", "Zoé P4"]
    assert [(one.line, one.column, one.reason) for one in faults] == [
        (3, "name", "control-character"),
        (4, "address", "bad-address"),
        (5, "note", "control-character"),
    ]


def test_half_a_letter_of_utf_16_is_the_fault_of_its_row() -> None:
    text = "address;name\na@b.test;Zoé\nb@b.test;Z\ud83d\nc@b;Zoé\n"
    rows, faults, *_columns = read_roster(b"\xff\xfe" + text.encode("utf-16-le", "surrogatepass"), "r.csv")
    assert [row.name for row in rows] == ["Zoé"]
    assert [(one.line, one.reason) for one in faults] == [(3, "bad-encoding"), (4, "bad-address")]


def test_one_wrong_octet_beside_one_letter_of_utf_8() -> None:
    (row,), (fault,), *_columns = read_roster(
        "address;name\na@b.test;Zoé\nb@b.test;Z".encode() + b"\xe9\n", "r.csv"
    )
    assert (row.name, fault.line, fault.reason) == ("Zoé", 3, "bad-encoding")


def test_a_nul_in_the_header() -> None:
    assert read_roster(b"address;na\0me\na@b.test;X\n" + b"a" * 40, "r.csv")[1] == (
        Fault(1, None, "control-character"),
    )


@pytest.mark.parametrize(
    "data",
    [b"address\n\0\0", random.Random(1).randbytes(5000), b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"\xff\xfe\0"],
)
def test_what_is_no_text_is_refused(data: bytes) -> None:
    with pytest.raises(MedmailError) as refused:
        read_roster(data, "r.csv")
    assert refused.value.code == "not-text"


def test_two_hundred_faults_among_ten_thousand_rows() -> None:
    chance = random.Random(4)
    lines = [f"p{n}@medecin.test,Dr P{n},{rpps(n)},médecin,CHU,g{n % 7},," for n in range(10_000)]
    planted = sorted(chance.sample(range(1, 10_000), 200))
    for number, at in enumerate(planted):
        lines[at] = [
            f"p{at}medecin.test,Dr P{at},,,,,,",
            f"p{at}@medecin.test,Dr P{at},{int(rpps(at)) + 1},,,,,",
            "p0@MEDECIN.test,Dr P,,,,,,",
            f"p{at}@medecin.test,Dr P{at},,,,,,,one too many",
        ][number % 4]
    begun = time.process_time()
    rows, faults, *_columns = read_roster((HEADER + "\n".join(lines)).encode(), "r.csv")
    assert [fault.line for fault in faults] == [at + 2 for at in planted]
    assert len(rows) == 9_800
    assert time.process_time() - begun < 5


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_any_octets_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(MedmailError):
        rows, _faults, *_columns = read_roster(b"address,name\n" + data, "r.csv")
        assert all(deliverable(row.address) for row in rows)


@pytest.mark.parametrize("digits", ["79927398713", "10003456789"])
def test_luhn_keys(digits: str) -> None:
    assert luhn(digits) == (digits == "79927398713")
