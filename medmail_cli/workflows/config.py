"""Writing the first ``config.toml``, and telling what is in force."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from medmail_cli import profile as profiles
from medmail_cli.config import Config, Paths, first
from medmail_cli.errors import MedmailError
from medmail_cli.pki.x509.address import is_address
from medmail_cli.profile import Profile
from medmail_cli.store.files import make_private, write_output


@dataclass(frozen=True)
class ConfigFile:
    """The configuration file written, or left as it is."""

    type: ClassVar[str] = "config-file"
    path: Path
    status: Literal["written", "unchanged"]
    exit: int = 0


@dataclass(frozen=True)
class Setting:
    """One setting in force, by its dotted key."""

    type: ClassVar[str] = "setting"
    key: str
    value: str | int | bool | None


@dataclass(frozen=True)
class Place:
    """Where something is kept."""

    type: ClassVar[str] = "place"
    name: str
    path: Path


def write_first(
    path: Path, address: str, server: str, profile: str, tls_anchors: Path | None
) -> Iterator[ConfigFile]:
    """Write a first configuration to ``path``. Raises ``config-exists`` where another one stands there."""
    import tomli_w

    profiles.load(profile)
    address = address or "you@example.org"
    if not is_address(address):
        raise MedmailError("bad-address", address=address)
    host = server or "mail." + address.rpartition("@")[2]
    content = tomli_w.dumps(first(address, host, profile, tls_anchors))
    make_private(path.parent)
    try:
        written = write_output(path, content.encode(), force=False)
    except MedmailError as error:
        if error.code != "exists":
            raise
        raise MedmailError("config-exists", path=str(path)) from None
    yield ConfigFile(path, "written" if written else "unchanged")


def settings(config: Config, profile: Profile) -> Iterator[Setting]:
    """Every setting in force; only where secrets come from is shown, never what they are."""
    yield from _flatten("", dataclasses.asdict(config) | {"profile": profile.name})
    switches = dataclasses.asdict(profile)
    del switches["name"]
    yield from _flatten("profile", switches)


def _flatten(prefix: str, values: dict[str, object]) -> Iterator[Setting]:
    for name, value in values.items():
        key = f"{prefix}.{name}" if prefix else name
        key = key.replace("_", "-")
        if isinstance(value, dict):
            yield from _flatten(key, value)
        elif isinstance(value, tuple | list):
            yield Setting(key, ", ".join(str(item) for item in value))
        elif value is not None:
            yield Setting(key, value if isinstance(value, bool | int) else str(value))


def places(paths: Paths) -> Iterator[Place]:
    """Every place of :class:`medmail_cli.config.Paths`."""
    for field in dataclasses.fields(paths):
        yield Place(field.name, getattr(paths, field.name))
