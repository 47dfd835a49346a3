"""Every sentence for people exists in English and in French; codes have words and exits."""

import ast
import string
from pathlib import Path

import pytest

import medmail_cli
from medmail_cli.errors import EXITS, MedmailError
from medmail_cli.ui import i18n, sanitize
from medmail_cli.ui.error_messages import ERRORS
from medmail_cli.ui.messages import NOTES, QUESTIONS, REASONS

PACKAGE = Path(medmail_cli.__file__).parent
CATALOGUE = PACKAGE / "locale" / "fr" / "LC_MESSAGES"


def sentences() -> dict[str, str]:
    """Every literal handed to ``_`` or ``N_``, with the file it stands in."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("_", "N_", "words._", "words.N_"):
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


def test_every_code_has_words_and_an_exit() -> None:
    assert set(ERRORS) == set(EXITS)


@pytest.mark.parametrize("code", sorted(EXITS))
def test_words_are_filled_even_where_a_fact_is_missing(code: str) -> None:
    assert i18n.message(MedmailError(code)) is not None
    assert "{" not in i18n.hint(MedmailError(code))


def test_every_code_that_is_raised_is_known() -> None:
    """MedmailError refuses unknown codes when it is made; this finds those that no test has made yet."""
    unknown = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "MedmailError":
                code = node.args[0]
                if isinstance(code, ast.Constant) and code.value not in EXITS:
                    unknown.add(code.value)
            if (
                isinstance(node, ast.Call)
                and ast.unparse(node.func).rpartition(".")[2] == "Note"
                and node.args
            ):
                code = node.args[0]
                if (
                    isinstance(code, ast.Constant)
                    and code.value not in NOTES
                    and path.parent.name == "workflows"
                ):
                    unknown.add(code.value)
    assert not unknown


def test_no_code_stands_in_the_table_without_being_used() -> None:
    text = "\n".join(
        path.read_text() for path in PACKAGE.rglob("*.py") if path.name not in ("errors.py", "sentences.py")
    )
    assert not {code for code in EXITS if f'"{code}"' not in text}


def test_every_reason_and_question_is_used() -> None:
    text = "\n".join(path.read_text() for path in PACKAGE.rglob("*.py") if path.name != "sentences.py")
    assert not {name for name in (*REASONS, *QUESTIONS, *NOTES) if f'"{name}"' not in text}


def test_a_strangers_string_is_shown_without_its_controls() -> None:
    assert sanitize.line("a\x1b[2J\nb\u202ec\x9b\ud800") == "a\\x1b[2J\\x0ab\\u202ec\\x9b\\ud800"
    assert sanitize.text("a\r\nb\tc\rd") == "a\nb\tc\\x0dd"
    assert sanitize.json_text('"\u202e\x9b"') == '"\\u202e\\u009b"'
