"""``config.toml``: where things are, what the person chose, and which network's profile applies.

The file belongs to the person and is only read here. Whatever is wrong with it raises ``bad-config``
with the file, the line and, for an unknown key, the nearest right one.
"""

import errno
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, NoReturn

from medmail_cli.errors import MedmailError

SECRETS = ("passphrase", "password", "p12-password", "pin", "backup-passphrase", "token")
"""The secrets a run may need; each has the same ways in (contract, Secrets)."""


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


@dataclass(frozen=True)
class Server:
    """A mail server; ``security`` is never plaintext."""

    host: str
    port: int
    security: Literal["starttls", "tls"]


@dataclass(frozen=True)
class SecretSource:
    """Where one secret comes from by configuration: a file, or a command whose first line it is."""

    file: Path | None = None
    command: str | None = None


@dataclass(frozen=True)
class Account:
    """A mailbox at an operator's."""

    name: str
    address: str
    smtp: Server | None = None
    imap: Server | None = None
    login: str = ""
    auth: str = "auto"
    password: SecretSource = SecretSource()
    token: SecretSource = SecretSource()
    client_identity: str | None = None
    tls_anchors: Path | None = None
    proxy: str | None = None
    sent_folder: str | None = None


@dataclass(frozen=True)
class Authority:
    """A certificate authority as ``enrol --ca NAME`` finds it."""

    name: str
    url: str
    method: Literal["est", "cmp", "acme", "csr"] = "est"
    tls_anchors: Path | None = None
    login: str = ""
    password: SecretSource = SecretSource()
    client_identity: str | None = None


@dataclass(frozen=True)
class Profile:
    """What a network demands, as named switches (see the files in ``profiles/``)."""

    name: str = "generic"
    end_to_end: Literal["required", "when-possible", "off"] = "required"
    cipher: Literal["aes-256-gcm", "aes-128-gcm", "aes-256-cbc", "aes-128-cbc"] = "aes-256-gcm"
    signature: Literal["opaque", "detached"] = "opaque"
    rsa_signature: Literal["pkcs1v15", "pss"] = "pkcs1v15"
    rsa_encryption: Literal["pkcs1v15", "oaep"] = "pkcs1v15"
    wrapping: Literal["none", "message-rfc822"] = "none"
    outer_subject: str = "[...]"
    header_protection: bool = True
    smime_type_auth_enveloped: Literal["authEnveloped-data", "authenticated-enveloped-data"] = (
        "authEnveloped-data"
    )
    revocation: Literal["hard", "soft"] = "soft"
    unauthenticated_encryption: Literal["problem", "note"] = "note"
    not_addressed: Literal["problem", "note"] = "note"
    domain_bound_certificates: bool = False
    request_dsn: bool = True
    request_mdn: bool = False
    whitelist: Path | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


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
    audit_origin: str | None = None


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


class _Table:
    """One TOML table being read: takes values out by key and complains with the line."""

    def __init__(self, path: Path, text: str, name: str, values: object) -> None:
        self.path, self.text, self.name = path, text, name
        if not isinstance(values, dict):
            self.fail(name, "not-a-table")
        self.values: dict[str, Any] = dict(values)
        self.known: list[str] = []

    def line_of(self, key: str) -> int:
        """The line (from 1) where ``key`` of this table stands; that of the table where it is not found."""
        bare = key.rpartition(".")[2]
        header = [part for part in self.name.split(".") if part]
        start = 0
        for depth in range(len(header), 0, -1):
            pattern = (
                r"^[ \t]*\[\s*" + r"\s*\.\s*".join(rf'"?{re.escape(p)}"?' for p in header[:depth]) + r"\s*\]"
            )
            if found := re.search(pattern, self.text, re.MULTILINE):
                start = found.start()
                break
        found = re.compile(rf'(?:^|[\s{{,.])"?{re.escape(bare)}"?\s*[=.]', re.MULTILINE).search(
            self.text, start
        )
        at = start
        if found:
            at = found.start() + (len(found.group()) - len(found.group().lstrip()))
        return self.text.count("\n", 0, at) + 1

    def fail(self, key: str, reason: str, **facts: object) -> NoReturn:
        where = f"{self.name}.{key}" if self.name and key != self.name else key
        raise MedmailError(
            "bad-config", path=str(self.path), line=self.line_of(key), key=where, reason=reason, **facts
        )

    def take(self, key: str, kind: type, default: Any = None, choices: tuple[str, ...] = ()) -> Any:
        self.known.append(key)
        if key not in self.values:
            return default
        value = self.values.pop(key)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            self.fail(key, "wrong-type", expected=kind.__name__)
        if choices and value not in choices:
            self.fail(key, "not-one-of", expected=", ".join(choices))
        return value

    def take_path(self, key: str) -> Path | None:
        value = self.take(key, str)
        return None if value is None else self.path.parent / Path(value).expanduser()

    def require(self, key: str, kind: type) -> Any:
        value = self.take(key, kind)
        if value is None or value == "":
            import difflib

            for similar in difflib.get_close_matches(key, self.values, 1):
                self.fail(similar, "unknown-key", nearest=key)
            self.fail(key, "missing")
        return value

    def table(self, key: str) -> "_Table | None":
        value = self.take(key, dict)
        return None if value is None else self.child(key, value)

    def child(self, key: str, value: object) -> "_Table":
        return _Table(self.path, self.text, f"{self.name}.{key}" if self.name else key, value)

    def source(self, name: str) -> SecretSource:
        """``NAME-file`` and ``NAME-command``."""
        command = self.take(f"{name}-command", str)
        if command is not None and not command.strip():
            self.fail(f"{name}-command", "missing")
        return SecretSource(self.take_path(f"{name}-file"), command)

    def end(self) -> None:
        """Complain of the first key nobody took."""
        for key in self.values:
            import difflib

            nearest = difflib.get_close_matches(key, self.known, 1, 0)
            self.fail(key, "unknown-key", nearest=nearest[0] if nearest else "")


def read_toml(path: Path) -> tuple[str, dict[str, Any]]:
    """The text of a TOML file and its values. Raises ``bad-config``."""
    import tomllib

    try:
        text = path.read_bytes().decode()
        return text, tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise MedmailError("bad-config", path=str(path), line=line, key="", reason="not-utf-8") from None
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"at line (\d+)", str(error))
        at_end = text.count("\n") + 1
        line = int(found.group(1)) if found else at_end
        detail = re.sub(r" \(at .*\)$", "", str(error))
        raise MedmailError(
            "bad-config", path=str(path), line=line, key="", reason="not-toml", detail=detail
        ) from None
    except OSError as error:
        raise MedmailError(
            "bad-config", path=str(path), line=1, key="", reason="unreadable", detail=error.strerror or ""
        ) from None


def load(path: Path) -> Config:
    """Read ``path``; a missing file is an empty configuration. Raises ``bad-config``."""
    if not path.exists():
        return Config(path)
    text, values = read_toml(path)
    top = _Table(path, text, "", values)
    secrets = {name: top.source(name) for name in SECRETS if name not in ("password", "token")}
    profile = top.take("profile", str, "generic")
    if "/" in profile or profile.endswith(".toml"):
        profile = str(path.parent / Path(profile).expanduser())
        if not Path(profile).is_file():
            top.fail("profile", "unreadable", detail=f"{profile}: {os.strerror(errno.ENOENT)}")
    elif profile != "generic" and profile not in (known := _profiles()):
        top.fail("profile", "not-one-of", expected=", ".join(known))
    config = Config(
        path=path,
        profile=profile,
        lang=top.take("lang", str, None, ("en", "fr")),
        accounts=_named(top, "accounts", _account),
        authorities=_named(top, "authorities", _authority),
        secrets=secrets,
        keyring=top.take("keyring", bool, True),
        delegates=tuple(_addresses(top, "delegates")),
        unlock_for=_duration(top, "unlock-for"),
        audit_origin=top.take("audit-origin", str),
    )
    top.end()
    return config


def _named(top: _Table, key: str, read: "Callable[[str, _Table], Any]") -> dict[str, Any]:
    group = top.table(key)
    if group is None:
        return {}
    result = {}
    for name, values in group.values.items():
        child = group.child(name, values)
        result[name] = read(name, child)
        child.end()
    return result


def _addresses(table: _Table, key: str) -> list[str]:
    values = table.take(key, list, [])
    for value in values:
        if not isinstance(value, str) or "@" not in value:
            table.fail(key, "not-an-address", value=str(value))
    return list(values)


def _duration(table: _Table, key: str) -> str | None:
    value = table.take(key, str)
    if value is not None:
        try:
            seconds(value)
        except ValueError:
            table.fail(key, "not-a-duration", value=value)
    return value if value is None else str(value)


def seconds(duration: str) -> int:
    """``90s``, ``15m``, ``2h`` or ``30d`` in seconds. Raises ValueError."""
    found = re.fullmatch(r"([0-9]{1,6})([smhd])", duration)
    if not found:
        raise ValueError(duration)
    return int(found.group(1)) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[found.group(2)]


def _server(table: _Table | None) -> Server | None:
    if table is None:
        return None
    server = Server(
        host=table.require("host", str),
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


AUTH = ("auto", "plain", "login", "scram-sha-256", "xoauth2", "oauthbearer", "external")
"""The SASL mechanisms an account may name (RFC 4616, 5802, 7677, 7628, 4422)."""


def _proxy(table: _Table) -> str | None:
    value = table.take("proxy", str)
    if value is not None and not re.match(r"(http|socks5h?)://[^/?#]", value):
        table.fail("proxy", "not-one-of", expected="socks5h://HOST:PORT, http://HOST:PORT")
    return None if value is None else str(value)


def _account(name: str, table: _Table) -> Account:
    address = table.require("address", str)
    if not all(address.rpartition("@")):
        table.fail("address", "not-an-address", value=address)
    return Account(
        name=name,
        address=address,
        smtp=_server(table.table("smtp")),
        imap=_server(table.table("imap")),
        login=table.take("login", str, address),
        auth=table.take("auth", str, "auto", AUTH),
        password=table.source("password"),
        token=table.source("token"),
        client_identity=table.take("client-identity", str),
        tls_anchors=table.take_path("tls-anchors"),
        proxy=_proxy(table),
        sent_folder=table.take("sent-folder", str),
    )


def _authority(name: str, table: _Table) -> Authority:
    return Authority(
        name=name,
        url=table.require("url", str),
        method=table.take("method", str, "est", ("est", "cmp", "acme", "csr")),
        tls_anchors=table.take_path("tls-anchors"),
        login=table.take("login", str, ""),
        password=table.source("password"),
        client_identity=table.take("client-identity", str),
    )


PROFILES = Path(__file__).parent / "profiles"


def _profiles() -> list[str]:
    """The names of the profiles that come along."""
    return sorted(path.stem for path in PROFILES.glob("*.toml"))


def load_profile(name: str) -> Profile:
    """One of the profiles that come along, or that in a file of one's own. Raises ``bad-config``."""
    path = Path(name) if name.endswith(".toml") or "/" in name else PROFILES / f"{name}.toml"
    if not path.exists():
        known = ", ".join(_profiles())
        raise MedmailError(
            "bad-config", path=str(path), line=1, key="profile", reason="not-one-of", expected=known
        )
    text, values = read_toml(path)
    table = _Table(path, text, "", values)
    taken: dict[str, Any] = {"name": path.stem}
    for switch in fields(Profile):
        if switch.name == "name":
            continue
        key = switch.name.replace("_", "-")
        if switch.name == "whitelist":
            value: Any = table.take_path(key)
        elif switch.name == "headers":
            value = table.take(key, dict)
        elif switch.type is bool:
            value = table.take(key, bool)
        else:
            value = table.take(key, str, None, getattr(switch.type, "__args__", ()))
        if value is not None:
            taken[switch.name] = value
    table.end()
    return Profile(**taken)


def complaint(config: Config, table: str, key: str, reason: str, **facts: object) -> MedmailError:
    """``bad-config`` for a value whose badness only shows when it is used, with its line."""
    text, _ = read_toml(config.path)
    line = _Table(config.path, text, table, {}).line_of(key)
    where = f"{table}.{key}"
    return MedmailError("bad-config", path=str(config.path), line=line, key=where, reason=reason, **facts)


def environment_home() -> Path | None:
    """The folder MEDMAIL_HOME names, if any."""
    value = os.environ.get("MEDMAIL_HOME")
    return Path(value).expanduser() if value else None
