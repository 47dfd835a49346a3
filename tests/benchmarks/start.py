"""Starting up, against a Typer hello world."""

import os
import sys
import tempfile
from pathlib import Path

from tests.benchmarks._measure import MEDMAIL, compare, process

HELLO = """\
import typer
app = typer.Typer()
@app.command()
def hello(name: str = "world"):
    print(f"Hello {name}")
if __name__ == "__main__":
    app()
"""


def main() -> None:
    """The version, a command's help, an empty inbox; and how many starts the whole tour takes."""
    with tempfile.TemporaryDirectory() as folder:
        hello = Path(folder) / "hello.py"
        hello.write_text(HELLO)
        env = {**os.environ, "MEDMAIL_HOME": folder}
        peer = process(sys.executable, str(hello))
        peer_help = process(sys.executable, str(hello), "--help")
        runs = 21
        compare("medmail --version / hello world", process(MEDMAIL, "--version"), peer, limit=0.6, runs=runs)
        compare(
            "medmail decrypt --help / hello world --help",
            process(MEDMAIL, "decrypt", "--help", env=env),
            peer_help,
            limit=1.3,
            runs=runs,
        )
        compare(
            "medmail inbox (empty) / hello world",
            process(MEDMAIL, "inbox", env=env),
            peer,
            limit=1.8,
            runs=runs,
        )
        # the tour was 73 to 82 starts long
        compare(
            "medmail demo / medmail inbox (empty)",
            process(MEDMAIL, "demo", env=env),
            process(MEDMAIL, "inbox", env=env),
            limit=150,
            runs=3,
        )


if __name__ == "__main__":
    main()
