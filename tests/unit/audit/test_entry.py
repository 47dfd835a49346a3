"""Entries: what is written is read back, what must never be logged is refused, nothing else is taken."""

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medmail_cli.audit import entry as en
from medmail_cli.audit.entry import Fact
from medmail_cli.errors import MedmailError

TIME = datetime(2026, 3, 1, 10, 0, 0, 123, tzinfo=UTC)
facts = st.dictionaries(
    st.text(max_size=10).filter(lambda name: name not in en._NEVER),
    st.text(max_size=20) | st.integers(-(2**53), 2**53) | st.booleans() | st.none(),
    max_size=3,
)
digests = st.lists(st.binary(min_size=32, max_size=32).map(bytes.hex), max_size=2).map(tuple)
strings = st.text(max_size=30)


@given(
    strings,
    strings,
    digests,
    facts,
    st.integers(0, 10**17),
    st.datetimes(datetime(2000, 1, 1), timezones=st.just(UTC)),
)
def test_intents_come_back(
    action: str, actor: str, objects: tuple[str, ...], facts: dict[str, Fact], index: int, time: datetime
) -> None:
    line = en.intent_line(index, time, "0" * 16, en.Intent(action, actor, objects, facts))
    assert b"\n" not in line
    assert line.isascii()
    assert en.index_of(line) == index
    read = en.parse(line + b"\n")
    assert (read.index, read.time, read.kind, read.of) == (index, time, "intent", None)
    assert (read.action, read.actor, read.objects, read.facts) == (action, actor, objects, facts)


@given(st.none() | strings, st.integers(0, 255), st.integers(0, 10**17))
def test_outcomes_come_back(reply: str | None, code: int, of: int) -> None:
    outcome = en.Outcome(of, "failed", code, reply)
    line = en.outcome_line(7, TIME, "0" * 16, outcome, en.Intent("send", "me"))
    match = en.HEADS.match(line)
    assert match is not None
    assert (match[4], int(match[5])) == (b"outcome", of)
    read = en.parse(line)
    assert (read.of, read.exit, read.reply, read.outcome, read.action) == (of, code, reply, "failed", "send")


def test_the_same_entry_never_has_the_same_hash() -> None:
    lines = {en.intent_line(0, TIME, "0" * 16, en.Intent("send", "me")) for _ in range(50)}
    assert len(lines) == 50


def test_times_are_utc() -> None:
    paris = TIME.astimezone(timezone(timedelta(hours=1)))
    assert (
        json.loads(en.intent_line(0, paris, "0" * 16, en.Intent("a", "b")))["time"]
        == "2026-03-01T10:00:00.000123Z"
    )


def test_a_reply_is_cut() -> None:
    line = en.outcome_line(1, TIME, "0" * 16, en.Outcome(0, "failed", 1, "x" * 10000), en.Intent("a", "b"))
    assert en.parse(line).reply == "x" * en.REPLY_LIMIT


@pytest.mark.parametrize("name", sorted(en._NEVER))
def test_content_and_secrets_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        en.intent_line(0, TIME, "0" * 16, en.Intent("send", "me", (), {name: "x"}))


@pytest.mark.parametrize("digest", ["", "Résultats de Mme Durand", "AB" * 32, "ab" * 31])
def test_objects_are_digests(digest: str) -> None:
    with pytest.raises(ValueError, match="SHA-256"):
        en.intent_line(0, TIME, "0" * 16, en.Intent("send", "me", (digest,)))


@given(
    st.binary(max_size=100)
    | st.recursive(strings | st.none() | st.integers(), st.lists).map(lambda v: json.dumps(v).encode())
)
def test_garbage_is_malformed(data: bytes) -> None:
    with pytest.raises(MedmailError) as error:
        en.parse(data)
    assert error.value.code == "malformed"


@given(st.data())
def test_a_field_of_another_kind_is_malformed(data: st.DataObject) -> None:
    fields = json.loads(en.intent_line(0, TIME, "0" * 16, en.Intent("a", "b")))
    name = data.draw(st.sampled_from(sorted(fields)))
    fields[name] = data.draw(st.floats(allow_nan=False) | st.just(True))
    with pytest.raises(MedmailError):
        en.parse(json.dumps(fields).encode())
