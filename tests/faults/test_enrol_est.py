"""``enrol new`` by EST under SIGKILL: the next run gets the certificate, for the same key, once in use."""

import os
import shutil
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from medmail_cli.sandbox.operator import Operator
from tests.support.cli import PASSPHRASE, medmail
from tests.support.killer import KILLED, count_effects, kill_points, run_killed_at

ADDRESS = "dr.martin@medecin.test"
POINTS = 12


def test_killed_anywhere_the_next_run_completes_it(operator: Operator, tmp_path: Path) -> None:
    home = tmp_path / "home"
    passphrase = tmp_path / "home.passphrase"
    passphrase.write_text(PASSPHRASE + "\n")
    fingerprint = operator.authority.fingerprint
    argv = ["medmail", "enrol", "new", ADDRESS, "--key", "p256", "--ca-fingerprint", fingerprint]
    around = {name: value for name, value in os.environ.items() if not name.startswith("MEDMAIL_")}
    env = around | {"MEDMAIL_HOME": str(home), "MEDMAIL_PASSPHRASE_FILE": str(passphrase)}
    operator.home(ADDRESS, home)
    total = count_effects(argv, env=env)
    for k in kill_points(total, POINTS):
        shutil.rmtree(home)
        operator.home(ADDRESS, home)
        before = len(operator.authority.issued)
        assert run_killed_at(argv, k, env=env).returncode == KILLED
        again = medmail(home, *argv[1:], "--json")
        assert again.exit == 0, (k, again.stderr)
        listed = [one for one in medmail(home, "keys", "list", "--json").objects if one["type"] == "identity"]
        assert [one["status"] for one in listed] == ["active"], k
        issued = operator.authority.issued[before:]
        # a second certificate only where the answer to the first request was lost, and for the same key
        assert len(issued) in (1, 2), k
        keys = {c.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) for c in issued}
        assert len(keys) == 1, k
        anchors = medmail(home, "trust", "list", "--json").objects[:-1]
        assert [one["sha256"] for one in anchors] == [fingerprint], k
        verified = medmail(home, "audit", "verify", "--json")
        assert verified.exit == 0, (k, verified.stderr)
