"""DKIM against the message of RFC 8463, against dkimpy, and against whoever changes something."""

import base64
from datetime import UTC, datetime

import dkim
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from medmail_cli.smime.dkim import Signed, verify

AT = datetime(2026, 11, 23, tzinfo=UTC)
RFC_8463 = rb"""DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=brisbane; t=1528637909; h=from : to :
 subject : date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus
 Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==
DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=test; t=1528637909; h=from : to : subject :
 date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3
 DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz
 dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=
From: Joe SixPack <joe@football.example.com>
To: Suzie Q <suzie@shopping.example.net>
Subject: Is dinner ready?
Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)
Message-ID: <20030712040037.46341.5F8J@football.example.com>

Hi.

We lost the game.  Are you hungry yet?

Joe.
""".replace(b"\n", b"\r\n")
RECORDS = {
    "brisbane._domainkey.football.example.com": (
        b"v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
    ),
    "test._domainkey.football.example.com": (
        b"v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWR"
        b"iGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/byYzCNb3W91y3FutAC"
        b"DfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3"
        b"Ip3G+2kryOTIKT+l/K4w3QIDAQAB"
    ),
}
KEY = rsa.generate_private_key(65537, 2048)
PEM = KEY.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
PUBLIC = base64.b64encode(KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
MESSAGE = (
    b"From: acme@ca.test\r\nTo: alexey@hosp.test\r\nSubject:  ACME: \r\n\tabc  \r\n"
    b"Auto-Submitted: auto-generated\r\nMessage-ID: <a@ca.test>\r\n\r\nA  line \r\n\r\nanother\t\r\n\r\n\r\n"
)
NAMES = [b"from", b"to", b"subject", b"message-id", b"auto-submitted", b"reply-to"]


def published(name: str) -> list[bytes]:
    return [RECORDS[name]] if name in RECORDS else []


def signed(message: bytes = MESSAGE, canonical: str = "relaxed/relaxed", names: list[bytes] = NAMES) -> bytes:
    forms = tuple(part.encode() for part in canonical.split("/"))
    made: bytes = dkim.sign(message, b"sel", b"ca.test", PEM, canonicalize=forms, include_headers=names)
    return made + message


def holding(message: bytes, record: bytes = b"v=DKIM1; p=" + PUBLIC, at: datetime = AT) -> tuple[Signed, ...]:
    asked = []

    def lookup(name: str) -> list[bytes]:
        asked.append(name)
        return [record]

    found = verify(message, "CA.test", lookup, at)
    assert set(asked) <= {"sel._domainkey.ca.test"}
    return found


def test_the_message_of_rfc_8463_holds_by_both_keys_and_neither_when_changed() -> None:
    found = verify(RFC_8463, "football.example.com", published, AT)
    assert [one.domain for one in found] == ["football.example.com"] * 2
    assert [field.name for field in found[0].fields] == ["from", "to", "subject", "date", "message-id"]
    assert verify(RFC_8463.replace(b"dinner", b"supper"), "football.example.com", published, AT) == ()
    assert verify(RFC_8463.replace(b"hungry", b"thirsty"), "football.example.com", published, AT) == ()
    assert (
        len(verify(RFC_8463.replace(b"hungry yet", b"hungry    yet"), "football.example.com", published, AT))
        == 2
    )


@pytest.mark.parametrize(
    "canonical", ["relaxed/relaxed", "simple/simple", "relaxed/simple", "simple/relaxed"]
)
@pytest.mark.parametrize("body", [b"", b"\r\n", b"x", b" \r\n\r\n", b"a\r\nb \t c\r\n\r\n"])
def test_what_dkimpy_signs_holds(canonical: str, body: bytes) -> None:
    message = MESSAGE.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" + body
    (found,) = holding(signed(message, canonical))
    assert found.domain == "ca.test"


def test_only_what_is_covered_is_given_back() -> None:
    message = signed(names=[b"from", b"to", b"subject"])
    (found,) = holding(b"Subject: ACME: other\r\nReply-To: mallory@evil.test\r\n" + message)
    assert [field.name for field in found.fields] == ["from", "to", "subject"]
    assert b"other" not in b"".join(field.raw for field in found.fields)
    # a name signed once more than it is there keeps out a field added later
    assert holding(b"Reply-To: mallory@evil.test\r\n" + signed()) == ()


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"v=DKIM1; p=",
        b"v=DKIM2; p=" + PUBLIC,
        b"v=DKIM1; t=y; p=" + PUBLIC,
        b"v=DKIM1; k=ed25519; p=" + PUBLIC,
        b"v=DKIM1; h=sha1; p=" + PUBLIC,
        b"v=DKIM1; s=other; p=" + PUBLIC,
        b"v=DKIM1; p=" + PUBLIC[:40],
        b"v=DKIM1; p=" + PUBLIC + b"; p=" + PUBLIC,
        RECORDS["test._domainkey.football.example.com"],
    ],
)
def test_a_key_that_may_not_be_used_or_is_another_proves_nothing(record: bytes) -> None:
    assert holding(signed(), record) == ()


def test_a_short_key_proves_nothing() -> None:
    weak = base64.b64decode(
        b"MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBALqbHeRLCyOdykC5SDLqI49ArYGYG1mqaH9/GnWjGavZM02fos4lc2w6"
        b"tCchcUBNtJvGqKwhC5JEnx3RYoSX2ucCAwEAAQ=="
    )
    assert holding(signed(), b"p=" + base64.b64encode(weak)) == ()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"a=rsa-sha256", b"a=rsa-sha1"),
        (b"v=1;", b"v=2;"),
        (b"d=ca.test", b"d=ca.test; l=0"),
        (b"d=ca.test", b"d=ca.test; x=1"),
        (b"d=ca.test", b"d=ca.test; i=@other.test"),
        (b"d=ca.test", b"d=ca.test; d=ca.test"),
        (b"bh=", b"bh=AAAA"),
        (b"From: acme@ca.test", b"From: acmf@ca.test"),
    ],
)
def test_a_signature_that_was_changed_proves_nothing(old: bytes, new: bytes) -> None:
    message = signed()
    assert message.count(old) == 1
    assert holding(message) != ()
    assert holding(message.replace(old, new)) == ()


@given(st.integers(0, len(signed()) - 1), st.integers(1, 255))
def test_no_changed_octet_gives_other_fields(at: int, change: int) -> None:
    message = bytearray(signed(canonical="simple/simple"))
    at %= len(message)
    (honest,) = holding(bytes(message))
    message[at] ^= change
    found = verify(bytes(message), "ca.test", lambda _name: [b"p=" + PUBLIC], AT)
    assert found == () or found[0] == honest


def test_nobody_is_asked_about_another_domain() -> None:
    def never(name: str) -> list[bytes]:
        raise AssertionError(name)

    assert verify(signed(), "other.test", never, AT) == ()
    assert verify(signed(), "", never, AT) == ()


@given(st.binary(max_size=300))
def test_whatever_comes_is_read(junk: bytes) -> None:
    verify(b"DKIM-Signature: " + junk + b"\r\n" + MESSAGE, "ca.test", lambda _name: [junk], AT)
    verify(signed(), "ca.test", lambda _name: [junk], AT)
