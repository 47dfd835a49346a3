"""What the log says is believed: a state under changes is what a plain mapping would be."""

from hypothesis import given
from hypothesis import strategies as st

from medmail_cli.audit.belief import Belief

_NAMES = st.text("0123456789abcdef", min_size=1, max_size=3)
_ABOUT = st.one_of(
    st.just("adopted"),
    st.builds("{} {}".format, st.sampled_from(["anchor", "contact", "revoked"]), _NAMES),
    st.builds("gone {} {}".format, st.sampled_from(["anchor", "contact"]), _NAMES),
    st.builds("dropped {}-{}".format, _NAMES, _NAMES),
    st.builds("dropped {}".format, _NAMES),
)


def line(about: str, number: int) -> str:
    """What stands in a state about that."""
    kind = about.partition(" ")[0]
    return f"{about} {number}" if kind == "gone" else f"{about} {number} aa" if kind == "dropped" else about


def dumped(lines: dict[str, str]) -> bytes:
    return ("\n" + "".join(f"{one}\n" for one in sorted(lines.values()))).encode()


@given(
    st.dictionaries(_ABOUT, st.integers(0, 99), max_size=30),
    st.dictionaries(_ABOUT, st.one_of(st.none(), st.integers(0, 99)), max_size=30),
    _ABOUT,
)
def test_changes_on_a_sorted_state_are_those_on_a_mapping(
    base: dict[str, int], changed: dict[str, int | None], asked: str
) -> None:
    plain = {about: line(about, number) for about, number in base.items()}
    changes = {about: None if number is None else line(about, number) for about, number in changed.items()}
    belief = Belief(base=dumped(plain), changes=changes)
    expected = {about: text for about, text in (plain | changes).items() if text is not None}
    assert belief.lines == dumped(expected)
    for about in {*plain, *changes, asked}:
        assert belief.line(about) == expected.get(about)
    for kind in ("anchor", "contact", "revoked", "gone", "dropped"):
        words = sorted(text.split(" ")[1:] for text in expected.values() if text.startswith(f"{kind} "))
        assert sorted(belief.all(kind)) == words
