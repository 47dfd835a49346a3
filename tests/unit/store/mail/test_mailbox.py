"""The mailbox: nothing lost, nothing doubled, all of the index from the Maildirs, nothing from inside."""

import dataclasses
import hashlib
import mailbox
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medmail_cli.errors import MedmailError
from medmail_cli.smime.outer import outer
from medmail_cli.store.mail import maildir
from medmail_cli.store.mail.mailbox import Mailbox
from medmail_cli.store.mail.outer_index import Stored
from tests.support.letters import opened
from tests.support.measured import processor_time
from tests.support.servers import sample

pytestmark = pytest.mark.thorough

NOW = datetime(2026, 11, 22, 12, 30, 15, 123456, tzinfo=UTC)
LATER = NOW + timedelta(days=1)
KEY = bytes(range(32))


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Mailbox]:
    opened = Mailbox(tmp_path / "mail")
    yield opened
    opened.close()


def fill(
    box: Mailbox, count: int = 5, folder: str = "INBOX", generation: str = "7", first: int = 1
) -> list[Stored]:
    batch = [(str(first + n), sample(first + n)) for n in range(count)]
    return [stored for stored, _ in box.store("work", folder, generation, batch, NOW)]


def server_ids(box: Mailbox, *args: Any, **wanted: Any) -> list[str]:
    return [letter.server_id for letter in box.list(*args, **wanted)]


def code_of(call: Callable[..., object], *args: object) -> str:
    with pytest.raises(MedmailError) as caught:
        call(*args)
    return caught.value.code


def test_what_is_stored_is_read_again_and_others_can_read_it(box: Mailbox) -> None:
    stored = fill(box)
    assert [box.read(one.id) for one in stored] == [sample(n) for n in range(1, 6)]
    others = mailbox.Maildir(box.folder / "work" / "INBOX", create=False)
    assert sorted(m["Subject"] for m in others) == [f"Message {n}" for n in range(1, 6)]
    assert [one.subject for one in box.list()] == [f"Message {n}" for n in range(1, 6)]
    assert stored[0].stored_at == NOW
    assert stored[0].from_ == "Dr Alice <alice@hosp.test>"
    modes = {p.stat().st_mode & 0o777 for p in box.folder.rglob("*") if p.is_file()}
    assert modes == {0o600}


def test_an_empty_mailbox_leaves_nothing_on_disk(box: Mailbox) -> None:
    assert not box.list()
    assert box.opened() == frozenset()
    assert code_of(box.find, "abcdef") == "not-found"
    assert not box.folder.exists()


def test_the_same_bytes_are_stored_once(box: Mailbox) -> None:
    fill(box)
    again = box.store("work", "INBOX", "7", [("1", sample(1)), ("9", sample(1)), ("10", sample(10))], LATER)
    assert [new for _, new in again] == [False, False, True]
    twice = box.store("work", "INBOX", "7", [("20", sample(20)), ("21", sample(20))], LATER)
    assert [new for _, new in twice] == [True, False]
    assert len(box.list()) == len(maildir.scan(box.folder / "work" / "INBOX")) == 7


def test_in_a_new_generation_messages_get_new_server_ids_and_keep_when_they_came(box: Mailbox) -> None:
    fill(box)
    moved = box.store("work", "INBOX", "8", [(str(40 + n), sample(n)) for n in range(1, 6)], LATER)
    assert not any(new for _, new in moved)
    assert [(letter.generation, letter.server_id, letter.stored_at) for letter in box.list()] == [
        ("8", str(40 + n), NOW) for n in range(1, 6)
    ]
    asked = [str(n) for n in range(1, 100)]
    assert box.progress("work", "INBOX").stored("8", asked) == {"41", "42", "43", "44", "45"}
    assert len(maildir.scan(box.folder / "work" / "INBOX")) == 5


def test_the_index_is_made_again_whole(box: Mailbox) -> None:
    fill(box)
    fill(box, 3, "Sent/2026 élan..", "9")
    box.keep_sent("home", [b"Subject: mine\r\n\r\n"], LATER)
    before = box.list()
    box.close()
    (box.folder / "index.db").unlink()
    assert box.list() == before
    box.progress("work", "INBOX").advance("7/6")
    assert box.rebuild() == 9
    assert box.list() == before


def test_the_index_follows_other_programs(box: Mailbox) -> None:
    stored = fill(box)
    inbox = box.folder / "work" / "INBOX"
    (inbox / "new" / stored[0].name).rename(inbox / "cur" / f"{stored[0].name}:2,FS")
    (inbox / "new" / stored[1].name).unlink()
    assert server_ids(box) == ["1", "3", "4", "5"]
    assert box.read(stored[0].id) == sample(1)
    assert code_of(box.read, stored[1].id) == "not-found"


def test_messages_a_kill_left_unindexed_are_taken_in(box: Mailbox) -> None:
    fill(box)
    raw = sample(77)
    name = str(maildir.Name(NOW, "7", "77", hashlib.sha256(raw).hexdigest()))
    with ThreadPoolExecutor(1) as pool:
        maildir.write(box.folder / "work" / "INBOX", [(name, raw)], pool)
    (box.folder / "work" / "INBOX" / "tmp" / name).write_bytes(raw[:100])
    assert box.progress("work", "INBOX").stored("7", ["6", "77"]) == {"77"}
    assert not list((box.folder / "work" / "INBOX" / "tmp").iterdir())
    assert box.list()[-1].server_id == "77"


def crowd(box: Mailbox, count: int) -> None:
    """So many messages that have been fetched, made without making each durable."""
    inbox = box.folder / "work" / "INBOX"
    maildir.create(inbox)
    for uid in range(1, count + 1):
        raw = sample(uid)
        name = maildir.Name(NOW, "7", str(uid), hashlib.sha256(raw).hexdigest())
        (inbox / "cur" / f"{name}:2,S").write_bytes(raw)
    box.rebuild()
    box.progress("work", "INBOX").advance(f"7/{count + 1}")


def one_more(box: Mailbox, uids: Iterator[int]) -> None:
    """What a fetch of one new message asks of the mailbox."""
    uid = next(uids)
    assert box.progress("work", "INBOX").position == f"7/{uid}"
    assert box.progress("work", "INBOX").stored("7", [str(uid)]) == set()
    ((_, new),) = box.store("work", "INBOX", "7", [(str(uid), sample(uid))], NOW)
    assert new
    box.progress("work", "INBOX").advance(f"7/{uid + 1}")


def test_a_new_message_costs_the_same_however_many_there_are(tmp_path: Path) -> None:
    taken = []
    for count in (500, 8000):
        box = Mailbox(tmp_path / str(count))
        crowd(box, count)
        uids = iter(range(count + 1, count + 10))
        taken.append(processor_time(lambda: one_more(box, uids)))  # noqa: B023 - called at once
        assert len(box.list()) == count + 3
        box.close()
    assert taken[1] < 2 * taken[0] + 0.005


def test_however_many_messages_move_their_folder_is_looked_at_once(
    box: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = fill(box, 40)
    inbox = box.folder / "work" / "INBOX"
    for one in stored[:-1]:
        (inbox / "new" / one.name).rename(inbox / "cur" / f"{one.name}:2,FRS")
    (inbox / "new" / stored[-1].name).unlink()
    looks: list[Path] = []
    scan = maildir.scan

    def counted(folder: Path) -> dict[str, Path]:
        looks.append(folder)
        return scan(folder)

    monkeypatch.setattr(maildir, "scan", counted)
    box.store("work", "INBOX", "8", [(str(40 + n), sample(n)) for n in range(1, 41)], LATER)
    assert len(looks) == 1
    with box.rewrapping():
        looks.clear()
        box.replace(
            [
                (one, b"bytes %d" % n)
                for n, one in enumerate(box._maildirs.index().all())
                if one.server_id < "80"
            ]
        )
    assert len(looks) == 2
    found = scan(inbox)
    assert {path.name.partition(":2,")[2] for path in found.values()} == {"FRS"}
    assert {maildir.named(name).generation for name in found} == {"8"}
    assert len(found) == 39


def test_witnesses_are_known_by_all_that_bears_their_server_id(box: Mailbox) -> None:
    assert box.progress("work", "INBOX").witnesses("7") == {}
    fill(box, 3)
    # numbers were given again: the first is two messages now
    box.store("work", "INBOX", "7", [("1", sample(50)), ("9", b"Subject: none\r\n\r\n")], NOW)
    ids = {str(n): frozenset({f"<sample-{n}@hosp.test>"}) for n in range(1, 20)}
    both = ids["1"] | {"<sample-50@hosp.test>"}
    assert box.progress("work", "INBOX").witnesses("7") == {"3": ids["3"], "2": ids["2"], "1": both}
    assert box.progress("work", "INBOX").witnesses("8") == {}
    # as numbers are, not as text is: 10 comes after 9
    fill(box, 7, first=4)
    assert box.progress("work", "INBOX").witnesses("7") == {str(n): ids[str(n)] for n in range(4, 11)}
    box.progress("work", "INBOX").owe("7", ["5"])
    box.progress("work", "INBOX").begin_again()
    assert box.progress("work", "INBOX").witnesses("7") == {}
    assert box.progress("work", "INBOX").stored("7", ["1", "2"]) == set()
    assert box.progress("work", "INBOX").owed("7") == []
    assert box.progress("work", "INBOX").position is None
    assert len(box.list()) == 12


def test_what_other_programs_did_meanwhile_is_seen_after_a_fetch(box: Mailbox) -> None:
    stored = fill(box)
    box.progress("work", "INBOX").advance("7/6")
    assert len(box.list()) == 5
    inbox = box.folder / "work" / "INBOX"
    (inbox / "new" / stored[1].name).unlink()
    box.keep_sent("work", [b"Subject: mine\r\n\r\n"], LATER)
    # neither what is stored afterwards nor what is noted hides it, and what was deleted stays away
    fill(box, 1, first=6)
    box.progress("work", "INBOX").advance("7/7")
    assert server_ids(box, folder="INBOX") == ["1", "3", "4", "5", "6"]
    assert box.progress("work", "INBOX").stored("7", ["7"]) == set()


def test_a_kill_within_the_clocks_tick_hides_no_message(box: Mailbox) -> None:
    fill(box)
    box.progress("work", "INBOX").advance("7/6")
    inbox = box.folder / "work" / "INBOX"
    before = (inbox / "new").stat()

    def killed(*_args: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("medmail_cli.store.mail.outer_index.add", killed)
        with pytest.raises(KeyboardInterrupt):
            fill(box, 1, first=6)
    os.utime(inbox / "new", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert box.progress("work", "INBOX").stored("7", ["6"]) == {"6"}


def test_changed_bytes_are_told(box: Mailbox) -> None:
    stored = fill(box, 1)[0]
    path = box.folder / "work" / "INBOX" / "new" / stored.name
    path.write_bytes(path.read_bytes().replace(b"Alice", b"Malic"))
    assert code_of(box.read, stored.id) == "message-damaged"


@pytest.mark.parametrize("damage", [b"", b"not a database, but long enough to be taken for one" * 40])
def test_a_damaged_index_is_told_and_can_be_made_again(box: Mailbox, damage: bytes) -> None:
    before = fill(box)
    box.close()
    (box.folder / "index.db").write_bytes(damage)
    assert code_of(box.list) == "index-damaged"
    box.rebuild()
    assert list(box.list()) == before


def test_prefixes(box: Mailbox) -> None:
    stored = fill(box)[0]
    assert box.find(stored.id[:6]) == stored
    assert box.find(stored.id.upper()) == stored
    assert code_of(box.find, stored.id[:5]) == "not-found"
    assert code_of(box.find, "../../etc") == "not-found"
    assert code_of(box.find, stored.id[:8], [stored.id[:8] + "0" * 56]) == "ambiguous"
    box.keep_sent("work", [sample(1)], LATER)
    assert box.find(stored.id[:6]).id == stored.id


def test_search(box: Mailbox) -> None:
    fill(box)
    box.store("work", "Archive", "1", [("1", sample(50, subject="=?utf-8?q?R=C3=A9sultat?="))], LATER)
    assert server_ids(box, "message 3") == ["3"]
    assert [one.folder for one in box.list("RESULTAT")] == ["Archive"]
    assert len(box.list(folder="archive")) == 1
    assert len(box.list(sender="alice", account="work")) == 6
    assert not box.list(sender="bob")
    assert len(box.list(since=datetime(2026, 11, 1, 0, 4, tzinfo=UTC))) == 3
    assert box.same_message_id("<sample-3@hosp.test>", "") == (box.list("message 3")[0].id,)


def test_what_one_sent_oneself_does_not_wait_to_be_opened(box: Mailbox) -> None:
    fill(box, 1)
    box.keep_sent("work", [b"Subject: mine\r\n\r\n"], LATER)
    assert [one.folder for one in box.list(unopened=True)] == ["INBOX"]
    assert [one.folder for one in box.list(unopened=True, folder="Sent")] == ["Sent"]


def test_nothing_from_inside_stands_readable_on_disk(box: Mailbox) -> None:
    first, second, *_ = fill(box)
    box.mark_opened([(first.id, {"subject": "SENTINEL Dupont", "text": "SENTINEL VIH", "to": ["a@b"]})], KEY)
    box.mark_opened([(second.id, {"subject": "x" * 100_000 + "SENTINEL"})], KEY)
    assert [one.id for one in box.list("sentinel dupont", subkey=KEY)] == [first.id]
    assert not box.list("sentinel")
    assert box.opened() == {first.id, second.id}
    assert server_ids(box, unopened=True) == ["3", "4", "5"]
    files = [path for path in box.folder.rglob("*") if path.is_file()]
    assert len(files) > 6
    assert not [path for path in files if b"SENTINEL" in path.read_bytes() or b"VIH" in path.read_bytes()]
    box.rebuild()
    assert len(box.opened()) == 2


def test_the_sealed_index_is_bound_to_key_and_message(box: Mailbox) -> None:
    first, second, *_ = fill(box)
    box.mark_opened([(first.id, {"subject": "a"}), (second.id, {"subject": "b"})], KEY)
    # another keystore: opened, but silent
    assert not list(box.learned(bytes(32)))
    box.close()
    path = box.folder / "learned.db"
    data = path.read_bytes()
    path.write_bytes(data.replace(first.id.encode(), b"0" * 64))
    assert code_of(lambda: list(box.learned(KEY))) == "store-damaged"


def test_a_full_disk_loses_nothing_that_was_there(box: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(box)
    real, budget = os.write, [3000]

    def write(descriptor: int, data: memoryview) -> int:
        budget[0] -= len(data)
        if budget[0] < 0:
            raise OSError(28, "No space left on device")
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    assert code_of(fill, box, 20, "INBOX", "7", 100) == "disk-full"
    monkeypatch.undo()
    assert not list((box.folder / "work" / "INBOX" / "tmp").iterdir())
    left = len(box.list())
    assert 5 <= left < 25
    fill(box, 20, "INBOX", "7", 100)
    assert len(box.list()) == 25


def test_two_processes_store_at_once(box: Mailbox) -> None:
    other = Mailbox(box.folder)
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(fill, one, 30) for one in (box, other)]:
            done.result()
    assert len(box.list()) == 30
    other.close()


def test_one_fetch_an_account_at_a_time(box: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.monotonic", iter(range(0, 1000, 10)).__next__)
    with box.fetching("work"), box.fetching("home"):
        assert code_of(Mailbox(box.folder).fetching("work").__enter__) == "store-busy"


@given(
    st.datetimes(datetime(1971, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC)),
    st.from_regex(r"[0-9a-z]{1,20}", fullmatch=True),
    st.from_regex(r"[0-9A-Za-z_-]{1,43}", fullmatch=True),
    st.binary(min_size=32, max_size=32),
    st.text("DFPRST", max_size=6),
)
def test_file_names_round_trip(
    at: datetime, generation: str, server_id: str, digest: bytes, flags: str
) -> None:
    name = maildir.Name(at, generation, server_id, digest.hex())
    assert maildir.parse_name(f"{name}:2,{flags}") == maildir.parse_name(str(name)) == name
    assert "/" not in str(name)


@given(st.text())
def test_other_programs_file_names_are_left_alone(name: str) -> None:
    assert maildir.parse_name(name) is None


@given(st.text(min_size=1, max_size=40))
def test_folder_names_round_trip_and_never_leave_their_place(name: str) -> None:
    try:
        encoded = maildir.encode_folder(name)
    except MedmailError:
        assert len(name.encode("utf-8", "surrogatepass")) > 80
        return
    assert maildir.decode_folder(encoded) == name
    assert not {"/", "\0", "\n"} & set(encoded)
    assert not encoded.startswith(".")


@given(st.binary(max_size=300) | st.text(max_size=200).map(lambda t: t.encode("utf-8", "surrogatepass")))
def test_outer_headers_of_anything(data: bytes) -> None:
    seen = outer(data)
    assert all(isinstance(getattr(seen, f.name), str | datetime | None) for f in dataclasses.fields(seen))


@given(st.binary(max_size=200))
def test_any_bytes_are_stored_and_listed(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    box = Mailbox(tmp_path_factory.mktemp("any"))
    ((stored, _),) = box.store(
        "work", "INBOX", "1", [("1", b"Subject: \xff =?utf-8?b?7aCA?=\n " + data)], NOW
    )
    assert box.list()[0].id == stored.id
    box.close()


def test_outer_headers() -> None:
    raw = b"SUBJECT: =?utf-8?q?=C3=A9?=\r\n folded\r\nFrom: a@b\r\nfrom: c@d\r\n\r\nTo: body\r\n"
    seen = outer(raw)
    assert (seen.subject, seen.from_, seen.to, seen.date) == ("é folded", "a@b", "", None)


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: b"\r\n\n" + raw,
        lambda raw: b"\xef\xbb\xbf" + raw,
        lambda raw: b"From alice@medecin.test Mon Nov 23 02:00:00 2026\r\n" + raw,
        lambda raw: raw.replace(b"\r\n", b"\r"),
        lambda raw: raw.replace(b"\r\n", b"\r\r\n"),
    ],
    ids=["blank lines", "mark", "mbox", "CR", "CRCRLF"],
)
def test_a_listing_and_an_opened_letter_read_the_same_headers(change: Callable[[bytes], bytes]) -> None:
    raw = change(b"From: a@b.test\r\nSubject: folded\r\n here\r\n\r\nTo: body\r\n")
    seen = outer(raw)
    assert (seen.from_, seen.subject, seen.to) == ("a@b.test", "folded here", "")
    shown = opened(raw).verdict.headers
    assert (shown.from_, shown.subject, shown.to) == (seen.from_, seen.subject, ())
