"""Every sentence for people exists in English and in French; codes have words and exits."""

import ast
import string
from pathlib import Path

import pytest

import medmail_cli
from medmail_cli.codes import CODES, EXITS, UNTRUSTED, Code, of_step
from medmail_cli.errors import MedmailError
from medmail_cli.smime.verdict import exit_for
from medmail_cli.ui import i18n, sanitize
from medmail_cli.ui.error_messages import ERRORS
from medmail_cli.ui.messages import NOTES, QUESTIONS, REASONS
from medmail_cli.ui.views import decrypt

PACKAGE = Path(medmail_cli.__file__).parent
CATALOGUE = PACKAGE / "locale" / "fr" / "LC_MESSAGES"


def sentences() -> dict[str, str]:
    """Every literal handed to ``_`` or ``N_``, with the file it stands in."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("_", "N_", "i18n._", "i18n.N_"):
                argument = node.args[0]
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str) and argument.value:
                    found[argument.value] = str(path.relative_to(PACKAGE))
    return found


def french() -> dict[str, str]:
    from babel.messages.pofile import read_po

    with (CATALOGUE / "medmail.po").open("rb") as stream:
        catalogue = read_po(stream)
    return {str(m.id): str(m.string) for m in catalogue if m.id and not m.fuzzy}


def placeholders(sentence: str) -> set[str]:
    return {
        name for _text, name, _spec, _conversion in string.Formatter().parse(sentence) if name is not None
    }


def test_every_sentence_has_a_french_translation() -> None:
    translated = french()
    missing = {text: where for text, where in sentences().items() if not translated.get(text)}
    assert not missing


def test_a_translation_fills_the_same_placeholders() -> None:
    known = sentences()
    wrong = {
        english: foreign
        for english, foreign in french().items()
        if english in known and placeholders(english) != placeholders(foreign)
    }
    assert not wrong


def test_the_compiled_catalogue_is_current() -> None:
    import io

    from babel.messages.mofile import read_mo, write_mo
    from babel.messages.pofile import read_po

    with (CATALOGUE / "medmail.po").open("rb") as stream:
        fresh = io.BytesIO()
        write_mo(fresh, read_po(stream))
    with (CATALOGUE / "medmail.mo").open("rb") as stream:
        compiled = {m.id: m.string for m in read_mo(stream) if m.id}
    fresh.seek(0)
    assert compiled == {m.id: m.string for m in read_mo(fresh) if m.id}


def test_every_code_has_words() -> None:
    assert set(ERRORS) == set(EXITS)
    assert set(NOTES) == {name for name, code in CODES.items() if code.of_run}
    assert set(decrypt.NOTES) == {name for name, code in CODES.items() if code.of_letter}
    assert all(code.exit is not None or code.of_run or code.of_letter for code in CODES.values())


@pytest.mark.parametrize("code", sorted(EXITS))
def test_words_are_filled_even_where_a_fact_is_missing(code: str) -> None:
    assert i18n.message(MedmailError(code)) is not None
    assert "{" not in i18n.hint(MedmailError(code))


def test_every_code_that_is_made_is_known() -> None:
    """MedmailError refuses unknown codes when it is made; this finds those that no test has made yet."""
    known = {
        "MedmailError": set(EXITS),
        "NothingAttemptedError": set(EXITS),
        "Problem": set(CODES),
        "Note": {name for name, code in CODES.items() if code.of_run},
    }
    unknown = {
        (path.name, code.value)
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and node.args
        for made, code in [(ast.unparse(node.func).rpartition(".")[2], node.args[0])]
        if made in known and isinstance(code, ast.Constant) and code.value not in known[made]
    }
    assert not unknown


def test_no_code_stands_in_the_register_without_being_used() -> None:
    register = {"codes.py", "error_messages.py", "messages.py"}
    text = "\n".join(path.read_text() for path in PACKAGE.rglob("*.py") if path.name not in register)
    assert not {code for code in CODES if f'"{code}"' not in text}


def test_a_code_in_the_register_is_found_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line adds a code; only its words stand elsewhere."""
    monkeypatch.setitem(CODES, "fake-code", Code(UNTRUSTED, steps=("headers",), of_letter=True))
    monkeypatch.setitem(EXITS, "fake-code", UNTRUSTED)
    monkeypatch.setitem(ERRORS, "fake-code", ("a fake", ""))
    assert MedmailError("fake-code").code == "fake-code"
    assert exit_for(["fake-code"]) == UNTRUSTED
    assert "fake-code" in of_step("headers")


def test_every_reason_and_question_is_used() -> None:
    text = "\n".join(
        path.read_text() for path in PACKAGE.rglob("*.py") if path.name not in ("codes.py", "messages.py")
    )
    assert not {name for name in (*REASONS, *QUESTIONS, *NOTES) if f'"{name}"' not in text}


def test_a_strangers_string_is_shown_without_its_controls() -> None:
    assert sanitize.line("a\x1b[2J\nb\u202ec\x9b\ud800") == "a\\x1b[2J\\x0ab\\u202ec\\x9b\\ud800"
    assert sanitize.text("a\r\nb\tc\rd") == "a\nb\tc\\x0dd"
    assert sanitize.json_text('"\u202e\x9b"') == '"\\u202e\\u009b"'
