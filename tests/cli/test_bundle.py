"""A hospital without the internet installs medmail: by the bundle of wheels, and by the Debian package."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from medmail_cli import __version__
from tests.support.offline import on_a_copy_of_this_machine
from tests.support.tools import require, run

ROOT = Path(__file__).parent.parent.parent
BUNDLE = f"medmail-{__version__}-bundle"

REFUSED = 'refused() { if "$@"; then exit 1; fi; }'
SENDS_AND_OPENS = r"""
medmail --version | grep --line-regexp 'medmail VERSION'
man medmail | grep --quiet 'medmail-decrypt'
man --where 1 medmail-send
man --where 5 medmail-config
medmail demo >demo.txt || { cat demo.txt; exit 1; }
grep --fixed-strings 'Believe it: every check held' demo.txt
""".replace("VERSION", re.escape(__version__))
"""The whole tour, on loopback: enrolled, sent, fetched, opened, answered, audited."""


BY_WHEELS = rf"""
{REFUSED}
tar --extract --file /tmp/given/{BUNDLE}.tar.gz --directory /tmp
sh /tmp/{BUNDLE}/install
{SENDS_AND_OPENS}
readlink /usr/local/bin/medmail | grep --line-regexp /opt/medmail/current/bin/medmail
test -s /usr/local/share/bash-completion/completions/medmail
test -s /usr/local/share/zsh/site-functions/_medmail
test -s /usr/local/share/fish/vendor_completions.d/medmail.fish

# one that is refused leaves the one before as it was
cp --recursive /tmp/{BUNDLE} /tmp/tampered
printf x >>"$(ls /tmp/tampered/wheels/rich-*.whl)"
refused sh /tmp/tampered/install 2>said.txt
grep 'not those that were published' said.txt
(cd /tmp/tampered && find . -type f ! -name SHA256SUMS -exec sha256sum {{}} + >SHA256SUMS)
refused sh /tmp/tampered/install 2>said.txt
grep 'DO NOT MATCH THE HASHES' said.txt
grep 'medmail is not installed' said.txt
test "$(ls /opt/medmail/versions | wc --lines)" = 1
medmail --version

sh /tmp/{BUNDLE}/install --uninstall
test ! -e /opt/medmail
find /usr/local -name '*medmail*' >left.txt
refused grep . left.txt
refused sh /tmp/{BUNDLE}/install --uninstall
"""

BY_DEBIAN_PACKAGE = rf"""
# a container's dpkg may be told to leave out documentation
package=/tmp/given/medmail_{__version__}-1_$(dpkg --print-architecture).deb
dpkg --no-triggers --path-include='/usr/share/*' --install "$package"
{SENDS_AND_OPENS}
mkdir evil; echo 'raise SystemExit("evil")' >evil/typer.py
PYTHONPATH=$PWD/evil medmail --version
find /usr/lib/medmail -path '*medmail_cli*' -name 'app.*.pyc' | grep .
grep cryptography /usr/share/doc/medmail/copyright
test -s /usr/share/doc/medmail/medmail-{__version__}.cdx.json
dpkg --verify medmail

dpkg --no-triggers --purge medmail
test ! -e /usr/lib/medmail
test ! -e /usr/bin/medmail
"""
"""It lives with its own packages, whatever the environment of who calls it would put before them."""


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release and its bundle, of the files as they lie here; building it compares two builds."""
    require("git", "dpkg-deb")
    if not (ROOT / ".git").exists():
        pytest.skip("a release is built in a clone")
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, ROOT / ".ci/release.py", "--draft", "--dist", folder, timeout=900)
    run(sys.executable, ROOT / ".ci/bundle.py", "--dist", folder, timeout=900)
    return folder


@pytest.fixture
def bundle(dist: Path, tmp_path: Path) -> Path:
    """The bundle, unpacked."""
    with tarfile.open(dist / f"{BUNDLE}.tar.gz") as tar:
        tar.extractall(tmp_path)  # noqa: S202 - our own
    return tmp_path / BUNDLE


def installs(bundle: Path, prefix: Path, *options: str | Path) -> subprocess.CompletedProcess[bytes]:
    return run(
        "sh",
        bundle / "install",
        "--prefix",
        prefix,
        "--links",
        prefix.parent / "links",
        *options,
        expect=None,
    )


def test_a_release_is_listed_with_its_sums(dist: Path) -> None:
    run("sh", "-c", f"cd {dist} && sha256sum --check --strict SHA256SUMS")
    assert {path.name for path in dist.iterdir()} == {
        "SHA256SUMS",
        f"{BUNDLE}.tar.gz",
        f"medmail-{__version__}.cdx.json",
        f"medmail_{__version__}-1_amd64.deb",
        f"medmail_{__version__}-1_arm64.deb",
        f"medmail_cli-{__version__}-py3-none-any.whl",
        f"medmail_cli-{__version__}.tar.gz",
    }


@pytest.mark.parametrize("python", ["3.11", "3.13"])
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_bundle_is_whole(bundle: Path, tmp_path: Path, python: str, machine: str) -> None:
    """pip finds all that it needs for each machine, and nothing else is asked."""
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in (34, 28, 17)] + [f"manylinux2014_{machine}"]
    done = run(
        *(sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check", "install", "--dry-run"),
        *("--no-index", "--find-links", bundle / "wheels", "--require-hashes", "--only-binary", ":all:"),
        *("--python-version", python, "--implementation", "cp", "--target", tmp_path / "nothing"),
        *(word for platform in platforms for word in ("--platform", platform)),
        *("--requirement", bundle / "requirements.txt"),
        env={"PIP_CONFIG_FILE": os.devnull},
    )
    assert f"medmail-cli-{__version__}" in done.stdout.decode()


@pytest.mark.parametrize("script", [BY_WHEELS, BY_DEBIAN_PACKAGE], ids=["wheels", "package"])
def test_it_is_installed_and_taken_away_without_a_network(dist: Path, tmp_path: Path, script: str) -> None:
    on_a_copy_of_this_machine(script, dist, tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("debian", ["bookworm", "trixie"])
def test_it_is_installed_on_a_bare_debian(dist: Path, tmp_path: Path, debian: str) -> None:
    require("debootstrap")
    base, folder = tmp_path / debian, tmp_path / "machine"
    folder.mkdir()
    wanted = "--include=python3,python3-venv,man-db"
    run("debootstrap", "--variant=minbase", wanted, debian, base, timeout=3600)
    for script in (BY_WHEELS, BY_DEBIAN_PACKAGE):
        on_a_copy_of_this_machine(script, dist, folder, base)


# --- what make release refuses ----------------------------------------------------------------------------


def test_a_release_is_built_of_what_is_committed_and_dated(tmp_path: Path) -> None:
    require("git")
    for name in (".ci/release.py", "medmail_cli/__init__.py", "CHANGELOG.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "CHANGELOG.md").write_text("## [Unreleased]\n")
    git = ("git", "-C", tmp_path, "-c", "user.name=a", "-c", "user.email=a@medecin.test")
    run(*git, "init", "--quiet")
    run(*git, "add", ".")
    run(*git, "commit", "--quiet", "--message", "all", "--no-gpg-sign")
    release = (sys.executable, tmp_path / ".ci/release.py")
    assert b"CHANGELOG.md has no dated section for " in run(*release, expect=1).stderr
    (tmp_path / "CHANGELOG.md").write_text(f"## [Unreleased]\n\n## [{__version__}] - 2026-12-01\n")
    assert b"not committed:\n M CHANGELOG.md\n" in run(*release, expect=1).stderr
    assert not (tmp_path / "dist").exists()


# --- what an installer says -------------------------------------------------------------------------------


def pretended(folder: Path, *answers: str) -> Path:
    """A python3 that answers what an installer asks of it, one after the other, and then fails."""
    program = folder / "python3"
    lines = "".join(f'{number}) echo "{answer}" ;;\n' for number, answer in enumerate(answers, 1))
    program.write_text(
        f'#!/bin/sh\necho >>"$0.asked"\ncase $(wc -l <"$0.asked") in\n{lines}*) exit 1 ;;\nesac\n'
    )
    program.chmod(0o755)
    return program


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        (["3.12"], "is Python 3.12, and this bundle is for 3.11 (Debian 12) and 3.13 (Debian 13)"),
        (["3.11"], "Install Debian's package python3-venv."),
        (["3.13"], "Install Debian's package python3-venv."),
        ([], "does not run"),
        (["3.11", ""], "cannot make virtual environments (see above)"),
    ],
)
def test_a_python_that_does_not_do_is_told_of(
    bundle: Path, tmp_path: Path, answers: list[str], said: str
) -> None:
    prefix = tmp_path / "prefix"
    done = installs(bundle, prefix, "--python", pretended(tmp_path, *answers))
    assert done.returncode == 1
    assert said in done.stderr.decode()
    assert not prefix.exists()


def test_without_a_python_there_is_none(bundle: Path, tmp_path: Path) -> None:
    done = installs(bundle, tmp_path / "prefix", "--python", "python-of-nobody")
    assert done.returncode == 1
    assert "there is no python-of-nobody" in done.stderr.decode()


def test_what_others_put_there_stays(bundle: Path, tmp_path: Path) -> None:
    prefix = tmp_path / "prefix"
    prefix.mkdir()
    (prefix / "letters").write_text("Dear colleague")
    done = installs(bundle, prefix)
    assert (done.returncode, "holds something else" in done.stderr.decode()) == (1, True)
    shutil.rmtree(prefix)
    program = tmp_path / "links" / "bin" / "medmail"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    done = installs(bundle, prefix)
    assert (done.returncode, "comes from elsewhere" in done.stderr.decode()) == (1, True)
    assert program.read_text() == "#!/bin/sh\n"
    assert not prefix.exists()
    done = installs(bundle, prefix, "--uninstall")
    assert (done.returncode, "There is no medmail in" in done.stderr.decode()) == (1, True)


@pytest.mark.parametrize("option", ["--prefix", "--force"])
def test_an_option_that_is_none(bundle: Path, option: str) -> None:
    done = run("sh", bundle / "install", option, expect=1)
    assert b"See: sh install --help" in done.stderr
