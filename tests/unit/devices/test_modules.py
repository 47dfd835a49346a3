"""What p11-kit's files mean to us (pkcs11.conf(5))."""

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medmail_cli.devices import modules


@pytest.mark.parametrize(
    ("registration", "module"),
    [
        ("module: opensc-pkcs11.so\n", "opensc-pkcs11.so"),
        ("# module: no.so\n\n  module :  /usr/lib/with space.so  \n", "/usr/lib/with space.so"),
        ("module: a:b.so\npriority: 5\n", "a:b.so"),
        ("module: p11-kit-trust.so\ntrust-policy: yes\n", None),
        ("module: a.so\nenable-in: p11-kit-proxy, firefox\n", None),
        ("module: a.so\nenable-in: firefox, medmail\n", "a.so"),
        ("module: a.so\ndisable-in: medmail\n", None),
        ("module:\n", None),
        ("", None),
    ],
)
def test_a_registration_names_a_module_for_us_or_none(registration: str, module: str | None) -> None:
    assert modules.module_of(registration) == module


@given(st.text())
def test_any_text_is_a_registration(text: str) -> None:
    modules.module_of(text)


def test_each_module_is_found_once_and_the_cps_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library, registered = tmp_path / "lib", tmp_path / "registered"
    for folder in (library / "pkcs11", registered):
        folder.mkdir(parents=True)
    for name in ("pkcs11/opensc-pkcs11.so", "pkcs11/other.so", "libcps3_pkcs11_lux.so"):
        (library / name).touch()
    (library / "opensc-pkcs11.so").symlink_to("pkcs11/opensc-pkcs11.so")
    (registered / "a.module").write_text("module: other.so\n")
    (registered / "b.module").write_text(f"module: {library}/pkcs11/opensc-pkcs11.so\n")
    (registered / "c.module").write_text("module: not-there.so\n")
    (registered / "d.module").write_bytes(b"module: \xff\xfe\n")
    monkeypatch.setattr(modules, "_FOLDERS", (str(library),))
    monkeypatch.setattr(modules, "_REGISTERED", (str(registered),))
    monkeypatch.setenv("HOME", str(tmp_path))
    found = [path.resolve().name for path in modules.modules()]
    assert found == ["libcps3_pkcs11_lux.so", "other.so", "opensc-pkcs11.so"]
    shutil.rmtree(registered)
    assert len(modules.modules()) == 2
