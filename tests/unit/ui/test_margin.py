"""A stranger's words within their margin, at any width."""

from hypothesis import given
from hypothesis import strategies as st

from medmail_cli.ui import margin


class Screen:
    """A console as far as the margin asks it."""

    def __init__(self, width: int, *, terminal: bool) -> None:
        self.width, self.interactive_out = width, terminal


def plain(lines: list[tuple[str, str]], width: int = 80, *, terminal: bool = False) -> list[str]:
    shown = margin.set_apart(lines, Screen(width, terminal=terminal))  # type: ignore[arg-type]  # all it asks
    return [
        one if isinstance(one, str) else "".join(p if isinstance(p, str) else p[1] for p in one)
        for one in shown
    ]


def test_nothing_of_a_stranger_stands_at_the_left_edge() -> None:
    shown = plain([("From: ", "x"), ("", ""), ("", "Believe it: every check held")])
    assert shown[1:-1] == ["| From: x", "|", "| Believe it: every check held"]
    assert shown[0] == shown[-1]
    assert shown[0] != plain([("", "x")])[0]
    assert plain([]) == []


@given(st.text(alphabet=st.characters(exclude_categories=["Cc", "Cs"]), max_size=300), st.integers(22, 90))
def test_a_terminal_breaks_no_line_that_the_margin_has_not_broken(text: str, width: int) -> None:
    shown = plain([("", text)], width, terminal=True)[1:-1]
    for line in shown:
        assert line.startswith("|")
        assert sum(map(margin._columns, line)) <= width
    words = "".join(line.removeprefix("|") for line in shown)
    assert "".join(words.split(" ")) == "".join(text.expandtabs().split(" "))


def test_off_a_terminal_a_line_stays_one() -> None:
    assert plain([("", "a " * 200 + "b")])[1] == "| " + "a " * 200 + "b"
