"""What is kept of a request, and which URLs are an authority's."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medmail_cli.errors import MedmailError
from medmail_cli.transport.acme import State, recall
from medmail_cli.transport.acmeserver import endpoint


@given(st.text(max_size=60), st.text(max_size=30), st.text(max_size=70))
def test_what_was_kept_is_recalled_for_the_same_request_alone(order: str, since: str, binding: str) -> None:
    state = State(order, since)
    assert recall(state.written(binding), binding) == state
    assert recall(state.written(binding), binding + "x") == State()


@given(st.binary(max_size=200))
def test_what_cannot_be_read_is_a_fresh_start(kept: bytes) -> None:
    assert recall(kept, "b") == State()


@given(
    st.dictionaries(
        st.sampled_from(["medmail-acme", "for", "order", "since"]),
        st.none() | st.integers() | st.text(max_size=5) | st.lists(st.none(), max_size=2),
    )
)
def test_what_is_half_there_is_a_fresh_start(values: dict[str, Any]) -> None:
    assert isinstance(recall(json.dumps(values).encode(), "b"), State)
    assert recall(json.dumps([values]).encode(), "b") == State()


@pytest.mark.parametrize(
    "url",
    [
        "http://ca.test/directory",
        "ca.test",
        "https://",
        "https://u@ca.test/",
        "https://ca.test:0/",
        "https://[/",
    ],
)
def test_an_authority_is_spoken_to_by_https_alone(url: str) -> None:
    with pytest.raises(MedmailError) as caught:
        endpoint(url)
    assert caught.value.code == "insecure-url"
