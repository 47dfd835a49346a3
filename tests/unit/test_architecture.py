"""The rules of the house that a machine can check: import directions, pure rooms, one room that prints."""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

import medmail_cli

PACKAGE = Path(medmail_cli.__file__).parent

PURE = {"smime", "cms", "pki", "audit"}
ADAPTERS = {"transport", "devices", "store"}
BOTTOM = {"model", "errors", "codes", "registers"}
ALLOWED = {
    "app": {"commands", "globaloptions", "session", "ui", "config", "profile", "transport"} | BOTTOM,
    "globaloptions": {"config", "ui", "transport"} | BOTTOM,
    "commands": {"wiring", "session", "workflows", "ui", "app", "config", "profile", "sandbox"}
    | ADAPTERS
    | PURE
    | BOTTOM,
    "wiring": {"session", "workflows", "ui", "config", "profile"} | ADAPTERS | PURE | BOTTOM,
    "session": {"secret_sources", "ui", "config", "profile"} | ADAPTERS | PURE | BOTTOM,
    "secret_sources": {"ui", "config", "toml", "devices", "store"} | BOTTOM,
    "workflows": {"config", "profile"} | ADAPTERS | PURE | BOTTOM,
    "ui": {"workflows"} | PURE | BOTTOM,  # of workflows and pure rooms: the types of events, for views
    "transport": {"config", "transport"} | PURE | BOTTOM,
    "devices": {"config", "profile"} | PURE | BOTTOM,
    "store": {"config", "profile"} | PURE | BOTTOM,
    "smime": {"cms", "pki"} | BOTTOM,
    "cms": BOTTOM,
    "pki": {"cms"} | BOTTOM,
    "audit": BOTTOM,
    "config": {"profile", "toml"} | BOTTOM,
    "profile": {"toml"} | BOTTOM,
    "toml": BOTTOM,
    "model": set[str](),
    "errors": {"codes"},
    "codes": set[str](),
    "registers": set[str](),
}
"""Room to the rooms below it that it may import."""

FORBIDDEN_IN_PURE = {"socket", "ssl", "pathlib", "shutil", "tempfile", "subprocess", "sqlite3", "asyncio"} | {
    "http",
    "urllib.request",
    "imaplib",
    "smtplib",
    "time",
    "sys",
    "fcntl",
    "getpass",
}
CLOCKS = {"now", "utcnow", "today"}


def modules(*rooms: str) -> Iterator[Path]:
    for room in rooms:
        yield from sorted((PACKAGE / room).rglob("*.py")) or [PACKAGE / f"{room}.py"]


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@functools.cache
def parsed(path: Path) -> ast.Module:
    """A module's tree."""
    return ast.parse(path.read_text())


@functools.cache
def imports(path: Path) -> tuple[tuple[str, bool], ...]:
    """Every imported module, and whether only for type checking."""
    return tuple(_imports(parsed(path)))


def _imports(tree: ast.Module) -> Iterator[tuple[str, bool]]:
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) in for_types) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, id(node) in for_types
            if node.module.partition(".")[0] in ("medmail_cli", "tests"):
                yield from ((f"{node.module}.{alias.name}", id(node) in for_types) for alias in node.names)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down_only(path: Path) -> None:
    room = room_of(path)
    if room in ("__init__", "sandbox"):
        return
    for name, for_types in imports(path):
        parts = name.split(".")
        if parts[0] != "medmail_cli" or len(parts) < 2:
            continue
        target = parts[1]
        if target == "__version__" or target == room or (for_types and room == "ui" and target == "session"):
            continue
        assert target in ALLOWED[room], f"{room} imports {name}"


@pytest.mark.parametrize("path", list(modules(*sorted(PURE))), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_pure_rooms_touch_no_socket_file_clock_environment_or_terminal(path: Path) -> None:
    for name, for_types in imports(path):
        assert for_types or name not in FORBIDDEN_IN_PURE, name
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("open", "print", "input"), called
            assert not (called.startswith("datetime") and called.rpartition(".")[2] in CLOCKS), called
        if isinstance(node, ast.Attribute):
            assert ast.unparse(node) not in ("os.environ", "os.getenv"), "environment"


def test_what_certificates_say_does_not_depend_on_whether_they_hold() -> None:
    upward = [
        (path.name, name)
        for path in modules("pki/x509")
        for name, _ in imports(path)
        if name.startswith(("medmail_cli.pki.path", "medmail_cli.pki.issuance"))
    ]
    assert not upward


def test_every_room_says_what_belongs_there() -> None:
    for path in PACKAGE.rglob("__init__.py"):
        said = ast.get_docstring(parsed(path)) or ""
        assert len(said.splitlines()) > 1, path


def test_no_files_import_each_other() -> None:
    """Not for types either."""
    names = {
        ".".join(("medmail_cli", *path.relative_to(PACKAGE).with_suffix("").parts)): path
        for path in PACKAGE.rglob("*.py")
        if path.name != "__init__.py"
    }
    below = {name: {other for other, _ in imports(path)} & names.keys() for name, path in names.items()}
    reached: dict[str, set[str]] = {}
    for name in names:
        seen, todo = set[str](), [name]
        while todo:
            todo += (new := below[todo.pop()] - seen)
            seen |= new
        reached[name] = seen
    assert not {name for name, seen in reached.items() if name in seen}


def test_no_command_imports_another() -> None:
    sideways = [
        (path.name, name)
        for path in modules("commands")
        for name, _ in imports(path)
        if name.startswith("medmail_cli.commands.")
    ]
    assert not sideways


def test_nothing_but_its_command_imports_the_sandbox() -> None:
    users = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if room_of(path) != "sandbox"
        for name, _ in imports(path)
        if name.startswith("medmail_cli.sandbox")
    }
    assert users <= {"commands/sandbox.py", "commands/demo.py"}


def test_no_test_module_imports_another() -> None:
    tests = Path(__file__).parent.parent
    sideways = [
        (str(path.relative_to(tests)), name)
        for path in tests.rglob("*.py")
        for name, _ in imports(path)
        if name.startswith("tests.") and ".test_" in name
    ]
    assert not sideways


def test_only_the_console_prints() -> None:
    for path in PACKAGE.rglob("*.py"):
        if room_of(path) in ("ui", "app", "globaloptions", "sandbox"):
            continue
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called != "print", path
                assert called not in ("sys.stdout.write", "sys.stderr.write"), path


def test_everything_public_says_what_it_is() -> None:
    silent = []
    for path in PACKAGE.rglob("*.py"):
        if room_of(path) == "commands" or "views" in path.parts:
            continue  # a command's words are its help, a view's those of its event
        tree = parsed(path)
        if path.name != "__init__.py" and not ast.get_docstring(tree):
            silent.append(str(path.relative_to(PACKAGE)))
        for node in tree.body:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                continue
            if not node.name.startswith("_") and not ast.get_docstring(node):
                silent.append(f"{path.relative_to(PACKAGE)}: {node.name}")
    assert not silent
