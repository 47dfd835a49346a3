"""TXT records from a server of our own on loopback, well and badly."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from medmail_cli.errors import MedmailError
from medmail_cli.transport.dns import texts

Answer = Callable[[dns.message.Message], bytes | None]


@contextmanager
def server(answer: Answer) -> Iterator[tuple[str, int]]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.settimeout(0.1)
        over = threading.Event()

        def serve() -> None:
            while not over.is_set():
                try:
                    query, client = listening.recvfrom(4096)
                except TimeoutError:
                    continue
                if (reply := answer(dns.message.from_wire(query))) is not None:
                    listening.sendto(reply, client)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname()
        finally:
            over.set()
            thread.join()


def with_records(*records: str) -> Answer:
    def answer(query: dns.message.Message) -> bytes:
        made = dns.message.make_response(query)
        if records:
            made.answer.append(dns.rrset.from_text(query.question[0].name, 60, "IN", "TXT", *records))
        return made.to_wire()

    return answer


def failing(code: dns.rcode.Rcode) -> Answer:
    def answer(query: dns.message.Message) -> bytes:
        made = dns.message.make_response(query)
        made.set_rcode(code)
        return made.to_wire()

    return answer


def test_the_strings_of_a_record_are_joined() -> None:
    with server(with_records('"v=DKIM1; " "p=abc"', '"other"')) as where:
        assert set(texts("sel._domainkey.ca.test", [where])) == {b"v=DKIM1; p=abc", b"other"}


@pytest.mark.parametrize("answer", [with_records(), failing(dns.rcode.NXDOMAIN)], ids=["none", "no name"])
def test_what_is_not_there_is_nothing(answer: Answer) -> None:
    with server(answer) as where:
        assert texts("sel._domainkey.ca.test", [where]) == ()


@pytest.mark.parametrize(
    "answer",
    [failing(dns.rcode.SERVFAIL), lambda _query: None, lambda _query: b"\xff" * 40],
    ids=["failure", "silence", "garbage"],
)
def test_who_does_not_answer_is_asked_another_day(answer: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medmail_cli.transport.dns.SECONDS", 1.0)
    with server(answer) as where, pytest.raises(MedmailError) as caught:
        texts("sel._domainkey.ca.test", [where])
    assert caught.value.code == "server-unreachable"


def test_a_name_that_is_none_is_not_there() -> None:
    with pytest.raises(MedmailError):
        texts("a" * 70 + ".test", [("127.0.0.1", 9)])
