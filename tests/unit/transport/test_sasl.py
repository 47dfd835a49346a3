"""SASL exchanges against the RFCs' own samples, and against servers that misbehave."""

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medmail_cli.errors import MedmailError
from medmail_cli.transport import sasl
from medmail_cli.transport.sasl import Credentials, Exchange, choose

WITH_PASSWORD = Credentials("user", password=lambda: b"pencil")
WITH_TOKEN = Credentials("user@example.com", token=lambda: b"vF9dft4qmT")


@pytest.fixture
def rfc_nonce(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secrets.token_urlsafe", lambda _size: "rOprNGfwEbeRWgbNEkqO")


def test_scram_as_in_rfc_7677(rfc_nonce: None) -> None:
    exchange = Exchange("SCRAM-SHA-256", WITH_PASSWORD)
    assert exchange.initial == b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    nonce = b"rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    answer = exchange.respond(b"r=%s,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096" % nonce)
    assert answer == b"c=biws,r=%s,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=" % nonce
    assert exchange.respond(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=") == b""
    exchange.finish()


@pytest.mark.parametrize(
    "first",
    [
        b"r=other,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        b"r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        b"r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=1",
        b"r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=999999999",
        b"r=rOprNGfwEbeRWgbNEkqOx,s=!,i=4096",
        b"r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,m=must",
        b"",
    ],
)
def test_scram_refuses_a_server_that_cheats(rfc_nonce: None, first: bytes) -> None:
    with pytest.raises(MedmailError) as caught:
        Exchange("SCRAM-SHA-256", WITH_PASSWORD).respond(first)
    assert caught.value.code == "server-answer-malformed"


@pytest.mark.parametrize("last", [b"v=AAAA", b"", None])
def test_scram_wants_the_servers_proof(rfc_nonce: None, last: "bytes | None") -> None:
    exchange = Exchange("SCRAM-SHA-256", WITH_PASSWORD)
    exchange.respond(b"r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096")
    with pytest.raises(MedmailError) as caught:
        exchange.finish() if last is None else exchange.respond(last)
    assert caught.value.code == "server-untrusted"


@given(st.text(min_size=1), st.text(min_size=1), st.binary(min_size=1, max_size=60))
def test_scram_agrees_with_a_server_of_the_rfc(login: str, password: str, salt: bytes) -> None:
    exchange = Exchange(
        "SCRAM-SHA-256", Credentials(login, password=lambda: password.encode("utf-8", "replace"))
    )
    bare = (exchange.initial or b"").removeprefix(b"n,,")
    first = bare.rpartition(b"r=")[2] + b"server"
    challenge = b"r=%s,s=%s,i=4096" % (first, base64.b64encode(salt))
    final = exchange.respond(challenge)
    without, _, proof = final.rpartition(b",p=")
    prepared = sasl.saslprep(password.encode("utf-8", "replace").decode()).encode()
    salted = hashlib.pbkdf2_hmac("sha256", prepared, salt, 4096)
    said = b",".join((bare, challenge, without))
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    signature = hmac.digest(stored, said, "sha256")
    key = bytes(a ^ b for a, b in zip(base64.b64decode(proof), signature, strict=True))
    assert hashlib.sha256(key).digest() == stored
    server = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), said, "sha256")
    assert exchange.respond(b"v=" + base64.b64encode(server)) == b""
    exchange.finish()


def test_oauthbearer_as_in_rfc_7628() -> None:
    exchange = Exchange("OAUTHBEARER", WITH_TOKEN, "server.example.com", 143)
    assert exchange.initial == (
        b"n,a=user@example.com,\x01host=server.example.com\x01port=143\x01auth=Bearer vF9dft4qmT\x01\x01"
    )
    assert exchange.respond(b'{"status":"invalid_token"}') == b"\x01"
    assert exchange.report == "status: invalid_token"


def test_the_simple_mechanisms() -> None:
    assert Exchange("PLAIN", WITH_PASSWORD).initial == b"\0user\0pencil"
    assert (
        Exchange("XOAUTH2", WITH_TOKEN).initial == b"user=user@example.com\x01auth=Bearer vF9dft4qmT\x01\x01"
    )
    assert Exchange("EXTERNAL", Credentials("user", certificate=True)).initial == b""
    login = Exchange("LOGIN", WITH_PASSWORD)
    assert login.initial is None
    assert [login.respond(b"Username:"), login.respond(b"Password:")] == [b"user", b"pencil"]
    login.finish()


@pytest.mark.parametrize(
    ("offered", "credentials", "chosen"),
    [
        (["PLAIN", "SCRAM-SHA-256", "LOGIN"], WITH_PASSWORD, "SCRAM-SHA-256"),
        (["login", "plain"], WITH_PASSWORD, "PLAIN"),
        (["PLAIN", "XOAUTH2"], WITH_TOKEN, "XOAUTH2"),
        (["PLAIN", "EXTERNAL"], Credentials("u", certificate=True), "EXTERNAL"),
        (["PLAIN", "LOGIN"], Credentials("u", "login", password=lambda: b"p"), "LOGIN"),
    ],
)
def test_the_strongest_that_fits_is_chosen(
    offered: "list[str]", credentials: Credentials, chosen: str
) -> None:
    assert choose(offered, credentials) == chosen


def test_no_mechanism_in_common() -> None:
    with pytest.raises(MedmailError) as caught:
        choose(["PLAIN"], WITH_TOKEN)
    assert caught.value.code == "no-login-mechanism"


def test_credentials_show_no_secret() -> None:
    assert "pencil" not in repr(WITH_PASSWORD)
