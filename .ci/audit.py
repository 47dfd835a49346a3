"""Ask for known vulnerabilities of what the locks hold; exit 0: none, 1: some, 3: not all could be asked for.

Where an index has no service for that, pip-audit skips its packages and calls a run that skipped them all a
success. Here whatever was not asked for is named, and is a failure of its own.
"""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
NOT_ASKED = 3


def main() -> int:
    """Ask, and say what was answered."""
    locks = [str(path) for path in sorted(ROOT.glob("requirements*.lock"))]
    words = [sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes", "--format", "json"]
    words += [*("--progress-spinner", "off"), *(word for lock in locks for word in ("--requirement", lock))]
    done = subprocess.run([*words, *sys.argv[1:]], capture_output=True, text=True, check=False)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        reason = done.stderr.strip().rpartition("\n")[2] or f"pip-audit ended with exit {done.returncode}"
        sys.stderr.write(
            f"Nothing is known about vulnerabilities: their service could not be asked ({reason}).\n"
            "Run 'make audit' again where the network allows it.\n"
        )
        return NOT_ASKED
    silent = sorted({package["name"] for package in packages if "skip_reason" in package})
    asked = [package for package in packages if "skip_reason" not in package]
    found = {
        (package["name"], package["version"], flaw["id"], ", ".join(flaw["fix_versions"]) or "no version")
        for package in asked
        for flaw in package["vulns"]
    }
    for name, number, flaw, fixed in sorted(found):
        sys.stdout.write(f"{name} {number}: {flaw}, mended in {fixed}\n")
    if silent or not asked:
        sys.stderr.write(
            f"Of {len(silent)} packages nothing is known, of {len(asked)} it is: "
            f"the service had no answer for {', '.join(silent) or 'any'}.\n"
            "Run 'make audit' again where the network reaches it; AUDIT='-s osv' asks another one.\n"
        )
    if found:
        sys.stderr.write(
            "Renew the lock with 'make lock'; AUDIT='--ignore-vuln ID' leaves out what does no harm here.\n"
        )
        return 1
    if silent or not asked:
        return NOT_ASKED
    sys.stdout.write(f"no known vulnerabilities in {len({package['name'] for package in asked})} packages\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
