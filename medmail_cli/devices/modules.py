"""Where PKCS#11 modules are: those the system has registered (p11-kit), and where their makers put them."""

from collections.abc import Iterator
from pathlib import Path

_REGISTERED = ("/usr/share/p11-kit/modules", "/etc/pkcs11/modules", "/opt/homebrew/share/p11-kit/modules")
_FOLDERS = (
    *("/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64"),
    *("/opt/homebrew/lib", "/Library/OpenSC/lib"),
)
_NAMES = (
    # Cryptolib CPS, of the French health professional card; it knows its card better than OpenSC does
    "libcps3_pkcs11_lux.so",
    "libcps3_pkcs11_osx.dylib",
    "opensc-pkcs11.so",
    "libykcs11.so",
    "libykcs11.dylib",
    "libsofthsm2.so",
)
_LARGEST_REGISTRATION = 64 * 1024


def modules() -> list[Path]:
    """Every module of this machine, each once: CPS first, then what p11-kit names, then the well-known."""
    known = list(_well_known())
    cps = [path for path in known if "cps3" in path.name]
    return list({path.resolve(): path for path in (*cps, *_registered(), *known)}.values())


def _well_known() -> Iterator[Path]:
    for name in _NAMES:
        for folder in _folders():
            yield from (
                path for inner in ("", "pkcs11", "softhsm") if (path := folder / inner / name).is_file()
            )


def _folders() -> Iterator[Path]:
    """Library folders, Debian's for each architecture among them."""
    for name in _FOLDERS:
        folder = Path(name)
        if name == "/usr/lib" and folder.is_dir():
            yield from sorted(folder.glob("*-linux-gnu*"))
        yield folder


def _registered() -> Iterator[Path]:
    """What p11-kit's configuration names (pkcs11.conf(5)), in the order of the files' names."""
    for folder in (*map(Path, _REGISTERED), Path.home() / ".config/pkcs11/modules"):
        if not folder.is_dir():
            continue
        for file in sorted(folder.glob("*.module")):
            try:
                with file.open("rb") as stream:
                    named = module_of(stream.read(_LARGEST_REGISTRATION).decode("utf-8", "replace"))
            except OSError:
                continue  # a registration that this user may not read is not for this user
            if named is not None:
                yield from _placed(named)


def _placed(named: str) -> Iterator[Path]:
    """A module by its path, or by its name in p11-kit's own folders."""
    if Path(named).is_absolute():
        places = [Path(named)]
    else:
        places = [folder / inner / named for folder in _folders() for inner in ("pkcs11", "")]
    yield from [path for path in places if path.is_file()][:1]


def module_of(registration: str) -> str | None:
    """The module that a p11-kit file names, None where it is not for us: a store of anchors, or disabled."""
    values = {}
    for line in registration.splitlines():
        name, colon, value = line.partition(":")
        if colon and not name.lstrip().startswith("#"):
            values[name.strip()] = value.strip()
    enabled = values.get("enable-in")
    if enabled is not None and "medmail" not in enabled.replace(",", " ").split():
        return None
    if "medmail" in values.get("disable-in", "").replace(",", " ").split():
        return None
    if values.get("trust-policy") == "yes":
        return None
    return values.get("module") or None
