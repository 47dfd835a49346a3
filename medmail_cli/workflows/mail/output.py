"""Where the content of opened letters goes, and what of it may be written there."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from medmail_cli.codes import INTEGRITY
from medmail_cli.smime.filenames import distinct, safe_name
from medmail_cli.store import files

if TYPE_CHECKING:
    from medmail_cli.smime.open import Opened
    from medmail_cli.smime.verdict import Verdict

STDOUT = "-"


@dataclass(frozen=True)
class Output:
    """Where content goes: at most one of ``file``, ``folder`` and ``stdout``; none shows it and no more."""

    stdout: bool = False
    file: Path | None = None
    folder: Path | None = None
    format: Literal["text", "eml"] = "text"
    accept_untrusted: bool = False
    force: bool = False

    @property
    def asked(self) -> bool:
        """Whether content is to be written somewhere, and not only shown."""
        return self.stdout or self.file is not None or self.folder is not None


SHOWN = Output()
"""Nowhere but on the screen."""


def may_write(opened: "Opened", output: Output) -> bool:
    """Trusted content, or what the person takes upon themselves."""
    if opened.content is None:
        return False
    verdict = opened.verdict
    # a bad signature is only ever released by --show-unverified, which says as much
    return verdict.trusted or output.accept_untrusted or verdict.exit == INTEGRITY


def write(opened: "Opened", output: Output) -> "Verdict":
    """Write content where it goes; the verdict that says where it is. Raises ``exists``, ``disk-full`` …"""
    verdict = opened.verdict
    if output.stdout:
        return replace(verdict, output=STDOUT)
    if not output.asked or not may_write(opened, output):
        return verdict
    if output.file is not None:
        files.write_output(output.file, rendered(opened, output.format), force=output.force)
        return replace(verdict, output=str(output.file))
    assert output.folder is not None  # noqa: S101 - one of the three was asked for
    folder = output.folder / verdict.id
    main = f"message.{'eml' if output.format == 'eml' else 'txt'}"
    names = distinct(
        (safe_name(attachment.name, attachment.type) for attachment in verdict.attachments), taken=[main]
    )
    files.make_own(folder)
    for name, data in zip(names, opened.parts, strict=True):
        files.write_output(folder / name, data, force=output.force, via=output.folder)
    content = rendered(opened, output.format)
    files.write_output(folder / main, content, force=output.force, via=output.folder)
    saved = tuple(
        replace(attachment, saved_as=str(folder / name))
        for attachment, name in zip(verdict.attachments, names, strict=True)
    )
    return replace(verdict, attachments=saved, output=str(folder / main))


def rendered(opened: "Opened", form: str) -> bytes:
    """Content as the chosen format has it."""
    if form == "eml":
        return opened.eml()
    return (opened.verdict.text or "").encode("utf-8", "replace")
