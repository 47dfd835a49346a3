"""What ACME servers say, well and badly."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medmail_cli.errors import MedmailError
from medmail_cli.pki.issuance import acme
from tests.support import pki

ORDER: dict[str, Any] = {
    "status": "pending",
    "expires": "2026-12-05T00:00:00Z",
    "identifiers": [{"type": "email", "value": "alexey@hosp.test"}],
    "authorizations": ["https://ca.test/authz/1"],
    "finalize": "https://ca.test/order/1/finalize",
}
AUTHORIZATION: dict[str, Any] = {
    "status": "pending",
    "identifier": {"type": "email", "value": "alexey@hosp.test"},
    "challenges": [
        {
            "type": "email-reply-00",
            "url": "https://ca.test/chall/1",
            "status": "pending",
            "from": "acme-challenge@ca.test",
            "token": "DGyRejmCefe7v4NfDGDKfA",
        },
        {"type": "something-01", "url": "https://ca.test/chall/2", "status": "pending"},
    ],
}
DIRECTORY = {
    "newNonce": "https://ca.test/nonce",
    "newAccount": "https://ca.test/account",
    "newOrder": "https://ca.test/order",
    "meta": {"termsOfService": "https://ca.test/terms", "externalAccountRequired": True},
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def test_what_a_server_says_in_the_words_of_rfc_8555() -> None:
    directory = acme.directory(json.dumps(DIRECTORY).encode())
    assert (directory.terms, directory.external_account_required) == ("https://ca.test/terms", True)
    order = acme.order(json.dumps(ORDER).encode())
    assert order.identifiers == (acme.Identifier("email", "alexey@hosp.test"),)
    first, second = acme.authorization(json.dumps(AUTHORIZATION).encode()).challenges
    assert (first.sender, first.token) == ("acme-challenge@ca.test", "DGyRejmCefe7v4NfDGDKfA")
    assert second.type == "something-01"


@pytest.mark.parametrize(
    ("reader", "good"),
    [(acme.directory, DIRECTORY), (acme.order, ORDER), (acme.authorization, AUTHORIZATION)],
)
@given(data=st.data())
def test_whatever_is_changed_is_read_or_malformed(
    reader: Any, good: dict[str, Any], data: st.DataObject
) -> None:
    changed = good | data.draw(st.dictionaries(st.sampled_from(sorted(good)), JSON, min_size=1, max_size=2))
    body = json.dumps(changed).encode()
    with contextlib.suppress(MedmailError):  # and nothing else
        reader(body)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"a":' * 50_000, b"<html>Welcome</html>"]
)
def test_what_is_no_object_is_malformed_and_no_problem(body: bytes) -> None:
    with pytest.raises(MedmailError):
        acme.document(body)
    assert acme.problem(body) == acme.Problem()


@pytest.mark.parametrize(
    "change",
    [
        {"token": ""},
        {"token": "a+b/c="},
        {"token": "a" * 600},
        {"from": None},
        {"url": "https://ca.test/\r\nX: y"},
        {"url": 7},
    ],
)
def test_a_challenge_that_cannot_be_one(change: dict[str, Any]) -> None:
    challenge = AUTHORIZATION["challenges"][0] | change
    with pytest.raises(MedmailError):
        acme.authorization(json.dumps(AUTHORIZATION | {"challenges": [challenge]}).encode())


def test_a_problem_is_told_in_one_short_line() -> None:
    told = acme.problem(
        json.dumps(
            {
                "type": "urn:ietf:params:acme:error:rejectedIdentifier",
                "detail": "This CA\nwill not issue " + "x" * 10_000,
                "subproblems": [{"detail": "for this address"}],
            }
        ).encode()
    )
    assert str(told).startswith("rejectedIdentifier: This CA will not issue xxx")
    assert len(told.detail) <= 200
    short = acme.problem(
        b'{"type":"about:blank","detail":"no","subproblems":[{"detail":"for this address"}]}'
    )
    assert str(short) == "no; for this address"


def test_a_chain_is_read_and_bounded() -> None:
    authorities = [pki.make_ca(f"Root {number}").certificate for number in range(40)]
    one, *others = map(pki.pem, authorities)
    assert acme.chain(b"Some words\n" + one + others[0]) == tuple(authorities[:2])
    for bad in (b"", b"no certificate", one[:-40], b"".join((one, *others))):
        with pytest.raises(MedmailError):
            acme.chain(bad)
