"""A copy of this machine, or of a bare one, without a network: what is done there is gone afterwards."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.tools import require

_ENTER = r"""
set -eu
machine=$1 given=$2 base=$3 script=$4
mount -t tmpfs tmpfs "$machine"
mkdir "$machine/upper" "$machine/work" "$machine/root"
mount -t overlay overlay -o "lowerdir=$base,upperdir=$machine/upper,workdir=$machine/work" "$machine/root"
mount --rbind /proc "$machine/root/proc"
mount --rbind /dev "$machine/root/dev"
mount -t tmpfs tmpfs "$machine/root/tmp"
mkdir "$machine/root/tmp/given"
mount --bind "$given" "$machine/root/tmp/given"
ip link set lo up
# nobody has named a bare one yet
test -e "$machine/root/etc/hosts" || echo "127.0.0.1 localhost" >"$machine/root/etc/hosts"
cd "$machine/root"
exec chroot . env -i HOME=/root LANG=C.UTF-8 PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
  sh -eux -c "cd /root; $script"
"""


def on_a_copy_of_this_machine(script: str, given: Path, folder: Path, base: Path = Path("/")) -> str:
    """What a shell script says there as root; ``given`` lies in /tmp/given, ``folder`` is empty and stays so.

    ``base`` holds the files of another machine.

    No command of it may fail. Only Debian's own programs are in PATH.
    """
    require("unshare", "ip", "dpkg-deb")
    if os.geteuid():
        if os.environ.get("CI"):
            pytest.fail("in CI this must run as root")
        pytest.skip("only root can make a copy of the machine")
    done = subprocess.run(
        ["unshare", "--net", "--mount", "sh", "-c", _ENTER, "sh", folder, given, base, script],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout
