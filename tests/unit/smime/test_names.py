"""Names of attachments, and texts that have one."""

import pytest

from medmail_cli.smime import display, mime
from medmail_cli.smime.filenames import safe_name

DISPOSITION = "Content-Disposition: "


def entity_named(field: str) -> mime.Entity:
    head = f"Content-Type: application/pdf\r\nContent-Disposition: attachment; {field}\r\n\r\n"
    return mime.parse(head.encode())


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("filename*0=\"=?utf-8?Q?r=C3=A9\";\r\n filename*1=\"sultat?=.pdf\"", "résultat.pdf"),
        ("filename*1*=utf-8''r%C3%A9; filename*2*=sultat.pdf", "résultat.pdf"),
        ("filename=\"plain.pdf\"; filename*5=\"lost\"", "plain.pdf"),
        ("filename==?utf-8?Q?r=C3=A9;b?=.pdf", "ré;b.pdf"),
        ("filename=\"=?utf-8?Q?r=C3=A9;b?=.pdf\"", "ré;b.pdf"),
        ("filename=\"C:\\Users\\x\\r.pdf\"", "C:\\Users\\x\\r.pdf"),
        ("filename=\"C:\\\\Users\\\\r \\\"1\\\".pdf\"", "C:\\Users\\r \"1\".pdf"),
        ("filename=\"Na 140 mmol\\L.txt\"", "Na 140 mmol\\L.txt"),
    ],
)  # fmt: skip
def test_names_of_attachments_are_whole(field: str, name: str) -> None:
    assert entity_named(field).filename == name


@pytest.mark.parametrize(
    ("received", "kept"),
    [
        ("CR 12/11/2026.pdf", "CR 12_11_2026.pdf"),
        ("Na 140 mmol\\L.txt", "Na 140 mmol_L.txt"),
        ("C:\\Users\\x\\r.pdf", "r.pdf"),
        ("\\srv\\share\\r.pdf", "r.pdf"),
        ("/home/x/r.pdf", "r.pdf"),
        ("../../r.pdf", "r.pdf"),
        ("~/r.pdf", "r.pdf"),
    ],
)
def test_a_slash_is_a_sign_where_it_is_no_path(received: str, kept: str) -> None:
    assert safe_name(received) == kept


@pytest.mark.parametrize(
    ("parts", "text", "attached"),
    [
        ([("text/plain; name=a.txt", "", "Hello")], "Hello", []),
        ([("text/plain; name=a.txt", f"{DISPOSITION}inline; filename=a.txt\r\n", "Hello")], "Hello", []),
        ([("text/plain; name=a.txt", f"{DISPOSITION}attachment\r\n", "Hello")], None, ["a.txt"]),
        ([("text/plain; name=a.txt", "", "Hello"), ("text/plain; name=b", "", "1")], "Hello", ["b"]),
        ([("text/plain", "", "Hello"), ("text/csv; name=b.csv", "", "1")], "Hello", ["b.csv"]),
    ],
)
def test_a_text_with_a_name_is_read_where_it_is_the_letter(
    parts: list[tuple[str, str, str]], text: str | None, attached: list[str]
) -> None:
    entities = [f"Content-Type: {kind}\r\n{more}\r\n{body}".encode() for kind, more, body in parts]
    raw = entities[0]
    if len(entities) > 1:
        inside = b"".join(b"--b\r\n" + one + b"\r\n" for one in entities)
        raw = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + inside + b"--b--\r\n"
    shown = display.shown(mime.parse(raw))
    assert [one.filename for one in shown.attachments] == attached
    assert (shown.text and shown.text.strip()) == text
