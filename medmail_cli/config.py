"""``config.toml``: where things are, what the person chose, and which network's profile applies.

The file belongs to the person and is only read here. Whatever is wrong with it raises ``bad-config``
with the file, the line and, for an unknown key, the nearest right one.
"""

import errno
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from medmail_cli.errors import MedmailError, path_of
from medmail_cli.registers import BY_HAND, LANGUAGES, MECHANISMS, PROTOCOLS
from medmail_cli.toml import NOWHERE, SecretSource, Table, read_toml

SECRETS = ("passphrase", "password", "p12-password", "pin", "backup-passphrase", "token")
"""The secrets a run may need; each has the same ways in."""


@dataclass(frozen=True)
class Paths:
    """Where everything is. All are folders but ``config``."""

    config: Path
    keystore: Path
    trust: Path
    contacts: Path
    mail: Path
    outbox: Path
    audit: Path
    cache: Path


ServerProtocol = Literal["imap", "pop3", "smtp"]


@dataclass(frozen=True)
class Server:
    """A mail server; ``security`` is never plaintext."""

    host: str
    port: int
    security: Literal["starttls", "tls"]


@dataclass(frozen=True)
class Account:
    """A mailbox at an operator's."""

    name: str
    address: str
    smtp: Server | None = None
    imap: Server | None = None
    pop3: Server | None = None
    login: str = ""
    auth: str = "auto"
    password: SecretSource = NOWHERE
    token: SecretSource = NOWHERE
    client_identity: str | None = None
    tls_anchors: Path | None = None
    proxy: str | None = None
    sent_folder: str | None = None

    @property
    def mailbox_server(self) -> Server | None:
        """The server that its letters are fetched from."""
        return self.imap or self.pop3

    @property
    def servers(self) -> dict[ServerProtocol, Server]:
        """Those that are configured, by protocol, the mailbox server first."""
        every: dict[ServerProtocol, Server | None] = {
            "imap": self.imap, "pop3": self.pop3, "smtp": self.smtp,
        }  # fmt: skip
        return {protocol: server for protocol, server in every.items() if server is not None}


@dataclass(frozen=True)
class Authority:
    """A certificate authority as ``enrol --ca NAME`` finds it."""

    name: str
    url: str
    method: str
    """One of ``PROTOCOLS``, or ``BY_HAND``."""
    tls_anchors: Path | None = None
    login: str = ""
    password: SecretSource = NOWHERE
    requests_per_minute: int = 0
    """The most that a batch may send; 0 for no limit of ours."""
    same_answer: bool = False
    """Whether a request that is sent again brings the same certificate again."""
    unsigned_challenges: bool = False
    """Whether ACME's challenge mails count though nothing proves their sender."""
    client_identity: str | None = None
    """The address of the identity that asks: it logs in by TLS (EST), or signs what is sent (CMP)."""
    challenge_account: str | None = None
    """The account that gets ACME's challenge mails for everybody, and may answer in their names."""


@dataclass(frozen=True)
class Config:
    """A whole ``config.toml``; ``path`` need not exist."""

    path: Path
    profile: str = "generic"
    lang: str | None = None
    accounts: Mapping[str, Account] = field(default_factory=dict)
    authorities: Mapping[str, Authority] = field(default_factory=dict)
    secrets: Mapping[str, SecretSource] = field(default_factory=dict)
    keyring: bool = True
    delegates: tuple[str, ...] = ()
    unlock_for: str | None = None
    card_module: Path | None = None
    """The PKCS#11 module to find cards by, where it is not one that is found anyway."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Fields added to every letter, outside."""
    fetch_private: bool = False
    """Whether what certificates name may also be fetched from this machine and private networks."""


def paths(home: Path | None) -> Paths:
    """The folders under ``home`` (``--home`` or MEDMAIL_HOME), else those of the platform (XDG)."""
    if home is not None:
        config = data = home
        cache = home / "cache"
    else:
        import platformdirs

        config = platformdirs.user_config_path("medmail", appauthor=False)
        data = platformdirs.user_data_path("medmail", appauthor=False)
        cache = platformdirs.user_cache_path("medmail", appauthor=False)
    return Paths(
        config=config / "config.toml",
        cache=cache,
        **{name: data / name for name in ("keystore", "trust", "contacts", "mail", "outbox", "audit")},
    )


def first(address: str, host: str, profile: str, tls_anchors: Path | None) -> dict[str, object]:
    """A first configuration, as TOML values: one account, its servers on the ports of RFC 8314 and 6409."""
    account: dict[str, object] = {
        "address": address,
        "smtp": {"host": host, "port": 587, "security": "starttls"},
        "imap": {"host": host, "port": 993, "security": "tls"},
    }
    if tls_anchors is not None:
        account["tls-anchors"] = str(tls_anchors.absolute())
    return {"profile": profile, "accounts": {"work": account}}


def load(path: Path) -> Config:
    """Read ``path``; a missing file is an empty configuration. Raises ``bad-config``."""
    if not path.exists():
        return Config(path)
    text, values = read_toml(path)
    top = Table(path, text, "", values)
    secrets = {name: top.source(name) for name in SECRETS if name not in ("password", "token")}
    profile = top.take("profile", str, "generic")
    if "/" in profile or profile.endswith(".toml"):
        profile = str(path.parent / top.expanded("profile", profile))
        if not Path(profile).is_file():
            top.fail("profile", "unreadable", detail=f"{profile}: {os.strerror(errno.ENOENT)}")
    elif profile != "generic":
        from medmail_cli import profile as profiles

        if profile not in (known := profiles.names()):
            top.fail("profile", "not-one-of", expected=", ".join(known))
    config = Config(
        path=path,
        profile=profile,
        lang=top.take("lang", str, None, LANGUAGES),
        accounts=_named(top, "accounts", _account),
        authorities=_named(top, "authorities", _authority),
        secrets=secrets,
        keyring=top.take("keyring", bool, True),
        delegates=tuple(_addresses(top, "delegates")),
        unlock_for=_duration(top, "unlock-for"),
        card_module=top.take_path("card-module"),
        headers=_headers(top),
        fetch_private=top.take("fetch-private", bool, False),
    )
    top.end()
    return config


def _headers(top: Table) -> dict[str, str]:
    group = top.table("headers")
    if group is None:
        return {}
    from medmail_cli import profile as profiles

    return profiles.headers(group)


def _named(top: Table, key: str, read: "Callable[[str, Table], Any]") -> dict[str, Any]:
    group = top.table(key)
    if group is None:
        return {}
    result = {}
    for name, values in group.values.items():
        child = group.child(name, values)
        result[name] = read(name, child)
        child.end()
    return result


def _addresses(table: Table, key: str) -> list[str]:
    values = table.take(key, list, [])
    for value in values:
        if not isinstance(value, str) or "@" not in value:
            table.fail(key, "not-an-address", value=str(value))
    return list(values)


def _duration(table: Table, key: str) -> str | None:
    value = table.take(key, str)
    if value is not None:
        try:
            seconds(value)
        except ValueError:
            table.fail(key, "not-a-duration", value=value)
    return value if value is None else str(value)


def seconds(duration: str) -> int:
    """``90s``, ``15m``, ``2h`` or ``30d`` in seconds. Raises ValueError."""
    match = re.fullmatch(r"([0-9]{1,6})([smhd])", duration)
    if not match:
        raise ValueError(duration)
    return int(match.group(1)) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match.group(2)]


def _server(table: Table | None) -> Server | None:
    if table is None:
        return None
    server = Server(
        # a dot at the end makes a name absolute; it is no part of it in TLS (RFC 6066 §3)
        host=table.require("host", str).removesuffix("."),
        port=table.require("port", int),
        security=table.take("security", str, "tls", ("starttls", "tls")),
    )
    if not 0 < server.port < 65536:
        raise MedmailError(
            "bad-config",
            path=str(table.path),
            line=table.line_of("port"),
            key=f"{table.name}.port",
            reason="not-one-of",
            expected="1–65535",
        )
    table.end()
    return server


def _proxy(table: Table) -> str | None:
    value = table.take("proxy", str)
    if value is not None and not re.match(r"(http|socks5h?)://[^/?#]", value):
        table.fail("proxy", "not-one-of", expected="socks5h://HOST:PORT, http://HOST:PORT")
    return None if value is None else str(value)


def _client_identity(table: Table) -> str | None:
    """An address of an identity of ours, or a file with a certificate and its key."""
    value: str | None = table.take("client-identity", str)
    if value is not None:
        table.expanded("client-identity", value)
    return value


def _account(name: str, table: Table) -> Account:
    address = table.require("address", str)
    if not all(address.rpartition("@")):
        table.fail("address", "not-an-address", value=address)
    imap, pop3 = _server(table.table("imap")), _server(table.table("pop3"))
    if imap is not None and pop3 is not None:
        table.fail("pop3", "excluded", other="imap")
    return Account(
        name=name,
        address=address,
        smtp=_server(table.table("smtp")),
        imap=imap,
        pop3=pop3,
        login=table.take("login", str, address),
        auth=table.take("auth", str, "auto", ("auto", *MECHANISMS)),
        password=table.source("password"),
        token=table.source("token"),
        client_identity=_client_identity(table),
        tls_anchors=table.take_path("tls-anchors"),
        proxy=_proxy(table),
        sent_folder=table.take("sent-folder", str),
    )


def _authority(name: str, table: Table) -> Authority:
    return Authority(
        name=name,
        url=table.require("url", str),
        method=table.take("method", str, next(iter(PROTOCOLS)), (*PROTOCOLS, BY_HAND)),
        tls_anchors=table.take_path("tls-anchors"),
        login=table.take("login", str, ""),
        password=table.source("password"),
        requests_per_minute=table.take("requests-per-minute", int, 0),
        same_answer=table.take("same-answer", bool, False),
        unsigned_challenges=table.take("unsigned-challenges", bool, False),
        client_identity=table.take("client-identity", str),
        challenge_account=table.take("challenge-account", str),
    )


def complaint(config: Config, table: str, key: str, reason: str, **facts: object) -> MedmailError:
    """``bad-config`` for a value whose badness only shows when it is used, with its line."""
    text, _ = read_toml(config.path)
    line = Table(config.path, text, table, {}).line_of(key)
    where = f"{table}.{key}"
    return MedmailError("bad-config", path=str(config.path), line=line, key=where, reason=reason, **facts)


def environment_home() -> Path | None:
    """The folder MEDMAIL_HOME names, if any."""
    value = os.environ.get("MEDMAIL_HOME")
    return path_of(value) if value else None
