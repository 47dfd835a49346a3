"""What the user trusts: anchors, helping intermediates, and the CRLs and OCSP answers at hand.

One PEM file per certificate in ``anchors/`` and ``intermediates/``, named by the SHA-256 of its DER; one
DER file per list in the cache's ``crls/``, named by the list with the key that signed it, and its content's
SHA-256; one per certificate in its ``ocsp/``, named by the certificate's SHA-256 and its own. Files are
checked against their names whenever they are read: a changed byte is ``store-damaged``. What newer lists
leave out stands in ``dropped/``.
"""

import datetime as dt
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from medmail_cli.cms.certificates import UNREADABLE, fingerprint, load_crl, load_pem
from medmail_cli.cms.identifiers import serial_number
from medmail_cli.errors import MedmailError
from medmail_cli.pki.path.crl import dropped_entries, list_name, newer, read_crl
from medmail_cli.pki.path.validation import Authorities, key_name
from medmail_cli.pki.x509.bundle import read_bundle
from medmail_cli.pki.x509.certificate import facts
from medmail_cli.store import files
from medmail_cli.store.trust import withdrawn_revocations

if TYPE_CHECKING:
    from medmail_cli.store.trust.believed import Believed, Standing

Kind = Literal["anchor", "intermediate", "crl"]
_FOLDERS: dict[Kind, str] = {"anchor": "anchors", "intermediate": "intermediates"}
SHORTEST_PREFIX = 6


@dataclass(frozen=True)
class Item:
    """A certificate or CRL of the store."""

    kind: Kind
    sha256: str
    content: x509.Certificate | x509.CertificateRevocationList
    path: Path

    @property
    def certificate(self) -> x509.Certificate:
        """The content, of an anchor or an intermediate."""
        return cast("x509.Certificate", self.content)

    @property
    def crl(self) -> x509.CertificateRevocationList:
        """The content, of a CRL."""
        return cast("x509.CertificateRevocationList", self.content)


class Trust:
    """The trust store in ``folder`` with its CRLs in ``cache``; neither need exist.

    Of a home, ``believed`` is what its audit log says: an anchor that the log knows nothing of is
    ``unlogged-trust``, and one whose removal was cut off by a kill is none. Whoever adds an anchor has
    written the intent into the log before.
    """

    def __init__(self, folder: Path, cache: Path, believed: "Believed | None" = None) -> None:
        self._folder = folder
        self._believed = believed
        self._crl_folder = cache / "crls"
        self._ocsp_folder = cache / "ocsp"

    def anchors(self) -> tuple[x509.Certificate, ...]:
        """The anchors. Raises ``store-damaged``."""
        return tuple(item.certificate for item in self._trusted())

    def intermediates(self) -> tuple[x509.Certificate, ...]:
        """Certificates that help to build paths and vouch for nothing. Raises ``store-damaged``."""
        return tuple(item.certificate for item in self._certificates("intermediate"))

    def crls(self) -> tuple[x509.CertificateRevocationList, ...]:
        """The newest issue of each list at hand. Raises ``store-damaged``."""
        return tuple(item.crl for item in self._crls())

    @cached_property
    def authorities(self) -> Authorities:
        """All of it as path validation wants it, read once; a change through this object reads it anew."""
        lists = {_list_of(item.path): item.crl for item in self._crls()}
        least = self._believed.dropped() if self._believed is not None else {}
        look_ups = {
            name: withdrawn_revocations.look_up(self._dropped(name), least.get(name, (0, "")))
            for name in {*lists, *least, *self._dropped_lists()}
        }
        return Authorities(
            self.anchors(),
            self.intermediates(),
            tuple(lists.values()),
            self.ocsp,
            [look_ups.pop(name) for name in lists],
            [(name.rpartition("-")[2], look_up) for name, look_up in look_ups.items()],
        )

    def items(self) -> Iterator[Item]:
        """Everything, anchors first. Raises ``store-damaged``, ``unlogged-trust``."""
        yield from self._trusted()
        yield from self._certificates("intermediate")
        yield from self._crls()

    def plan(
        self,
        data: bytes,
        name: str,
        *,
        intermediate: bool = False,
        signers: Sequence[x509.Certificate] = (),
    ) -> tuple[tuple[Item, bool], ...]:
        """What :meth:`add` would do with the file ``name``: each item and whether it is new here.

        A CRL older than the one at hand, or the same, is not new. Only one signed by an authority at hand,
        in the file or among ``signers``, takes an older one's place; any other is kept beside, so that a
        forgery displaces nothing. Raises ``malformed``, ``store-damaged``.
        """
        bundle = read_bundle(data, name)
        kind: Kind = "intermediate" if intermediate else "anchor"
        planned = [self._item(kind, certificate) for certificate in bundle.certificates]
        plan = [(item, not item.path.exists() or self._standing(item) != "believed") for item in planned]
        if bundle.crls:
            at_hand = (*signers, *bundle.certificates, *self.anchors(), *self.intermediates())
            held = tuple(self._crls())
            for crl in bundle.crls:
                signer = _signer(crl, at_hand)
                item = self._list(crl, signer)
                same = _list_of(item.path) if signer else list_name(crl)
                rivals = [kept.crl for kept in held if _list_of(kept.path).startswith(same)]
                plan.append((item, all(newer(crl, rival) for rival in rivals)))
        return tuple(plan)

    def keep(self, item: Item) -> None:
        """Store one item of a plan durably; an older issue of the same CRL goes, but for what is left out."""
        form = Encoding.DER if item.kind == "crl" else Encoding.PEM
        with files.lock(self._folder / ".lock"):
            others = self._crl_folder.glob(f"{_list_of(item.path)}.*.crl") if item.kind == "crl" else ()
            older = [path for path in others if path != item.path]
            for path in older:
                self._remember(item, path)
            files.write_atomic(item.path, item.content.public_bytes(form))
            for path in older:
                path.unlink(missing_ok=True)
        self.__dict__.pop("authorities", None)

    def _remember(self, item: Item, other: Path) -> None:
        """Keep what a new issue leaves out of an older one (RFC 5280 §3.3), of a delta too."""
        old, new = read_crl(load_crl(_read(other))), read_crl(item.crl)
        if old is not None and new is not None:
            held = withdrawn_revocations.remember(
                self._dropped(_list_of(item.path)), dropped_entries(old, new), new.this_update
            )
            if self._believed is not None:
                # the log after the file: more than it says may stand there, never less
                self._believed.remember(_list_of(item.path), *held)

    def _dropped(self, name: str) -> Path:
        return self._folder / "dropped" / f"{name}.txt"

    def _dropped_lists(self) -> list[str]:
        return sorted(path.stem for path in (self._folder / "dropped").glob("*.txt"))

    def remembered(self) -> Iterator[tuple[str, int, str]]:
        """Of each list how many octets of revocations are remembered, and their SHA-256."""
        for name in self._dropped_lists():
            yield name, *withdrawn_revocations.size(self._dropped(name))

    def unlogged(self) -> Iterator[Path]:
        """The anchors' files that the log knows nothing of."""
        for item in self._certificates("anchor"):
            if self._standing(item) == "unknown":
                yield item.path

    def missing(self) -> Iterator[Path]:
        """The files of remembered revocations that lack what the log says was in them."""
        for name, known in self._believed.dropped().items() if self._believed is not None else ():
            path = self._dropped(name)
            try:
                withdrawn_revocations.verify(path, known)
            except MedmailError:
                yield path

    def ocsp(self, certificate: x509.Certificate) -> tuple[bytes, ...]:
        """The OCSP responses (DER) kept about a certificate. Raises ``store-damaged``."""
        if not self._answered:
            return ()
        kept = []
        for path in self._answered.get(fingerprint(certificate), ()):
            try:
                der = path.read_bytes()
            except FileNotFoundError:
                continue  # another process has put a newer one in its place
            except OSError as error:
                raise MedmailError("store-damaged", path=str(path)) from error
            if hashlib.sha256(der).hexdigest() != path.stem.partition(".")[2]:
                raise MedmailError("store-damaged", path=str(path))
            kept.append(der)
        return tuple(kept)

    def keep_ocsp(self, certificate: x509.Certificate, der: bytes) -> bool:
        """Store a response about a certificate durably, in the place of an older one; False if not newer."""
        held = self.ocsp(certificate)
        newest = max(filter(None, map(_answered_at, held)), default=None)
        at = _answered_at(der)
        if at is None or (newest is not None and at <= newest):
            return False
        # that a certificate was revoked may be forgotten there once it has ended (RFC 6960 §4.4.4)
        ended = at > facts(certificate).not_after
        if (
            ended
            and not _revokes(der, certificate)
            and any(_revokes(response, certificate) for response in held)
        ):
            return False
        name = fingerprint(certificate)
        path = self._ocsp_folder / f"{name}.{hashlib.sha256(der).hexdigest()}.ocsp"
        with files.lock(self._folder / ".lock"):
            files.write_atomic(path, der)
            for other in self._ocsp_folder.glob(f"{name}.*.ocsp"):
                if other != path:
                    other.unlink(missing_ok=True)
        self.__dict__.pop("_answered", None)
        return True

    @cached_property
    def _answered(self) -> dict[str, tuple[Path, ...]]:
        """The files of responses by certificate; a kill may have left an older one beside the newest."""
        by_certificate: dict[str, tuple[Path, ...]] = {}
        for path in sorted(self._ocsp_folder.glob("*.ocsp")):
            name = path.name.partition(".")[0]
            by_certificate[name] = (*by_certificate.get(name, ()), path)
        return by_certificate

    def add(self, data: bytes, name: str, *, intermediate: bool = False) -> tuple[tuple[Item, bool], ...]:
        """Take all of a PEM, DER or PKCS#7 file: certificates as anchors (or intermediates), CRLs as such.

        Gives each item and whether it was new. Raises ``malformed``, ``store-damaged``, ``disk-full`` …
        """
        plan = self.plan(data, name, intermediate=intermediate)
        for item, new in plan:
            if new:
                self.keep(item)
        return plan

    def find(self, prefix: str) -> Item:
        """The item whose SHA-256 begins so. Raises ``not-found``, ``ambiguous-digest``, ``store-damaged``."""
        wanted = prefix.lower().replace(":", "")
        # what is not believed can be taken out all the same
        everything = (*self._certificates("anchor"), *self._certificates("intermediate"), *self._crls())
        matching = [item for item in everything if item.sha256.startswith(wanted)]
        if len(wanted) < SHORTEST_PREFIX or not matching:
            raise MedmailError("not-found", what="certificate", name=prefix)
        if len({item.sha256 for item in matching}) > 1:
            raise MedmailError("ambiguous-digest", prefix=prefix)
        return matching[0]

    def remove(self, item: Item) -> None:
        """Take one item out, for good."""
        with files.lock(self._folder / ".lock"):
            item.path.unlink(missing_ok=True)
            files.sync_folder(item.path.parent)
            if item.kind == "crl":
                self._forget(_list_of(item.path))
        self.__dict__.pop("authorities", None)

    def forgettable(self, name: str) -> Path:
        """The file of remembered revocations of that name, whether it is there or missing.

        Raises ``not-found``.
        """
        known = {*self._dropped_lists(), *(self._believed.dropped() if self._believed is not None else ())}
        if (stem := name.removesuffix(".txt")) not in known:
            raise MedmailError("not-found", what="certificate", name=name)
        return self._dropped(stem)

    def forget(self, path: Path) -> None:
        """Forget for good what is remembered in such a file."""
        with files.lock(self._folder / ".lock"):
            self._forget(path.stem)
        self.__dict__.pop("authorities", None)

    def _forget(self, name: str) -> None:
        if self._believed is not None:
            self._believed.remember(name, 0, "")
        path = self._dropped(name)
        path.unlink(missing_ok=True)
        if path.parent.exists():
            files.sync_folder(path.parent)

    def _item(self, kind: Kind, certificate: x509.Certificate) -> Item:
        sha256 = fingerprint(certificate)
        return Item(kind, sha256, certificate, self._folder / _FOLDERS[kind] / f"{sha256}.pem")

    def _list(self, crl: x509.CertificateRevocationList, signer: x509.Certificate | None) -> Item:
        """Under the list's name and its signer's key; under its own digest where nobody at hand signed it."""
        sha256 = hashlib.sha256(crl.public_bytes(Encoding.DER)).hexdigest()
        key = key_name(signer) if signer else sha256[:32]
        path = self._crl_folder / f"{list_name(crl)}-{key}.{sha256}.crl"
        return Item("crl", sha256, crl, path)

    def _trusted(self) -> Iterator[Item]:
        for item in self._certificates("anchor"):
            standing = self._standing(item)
            if standing == "unknown":
                raise MedmailError("unlogged-trust", path=str(item.path))
            if standing == "believed":
                yield item

    def _standing(self, item: Item) -> "Standing":
        if self._believed is None or item.kind != "anchor":
            return "believed"
        return self._believed.anchor(item.sha256)

    def _certificates(self, kind: Kind) -> Iterator[Item]:
        for path in sorted((self._folder / _FOLDERS[kind]).glob("*.pem")):
            data = _read(path)
            try:
                certificate = load_pem(data)
            except UNREADABLE as error:
                raise MedmailError("store-damaged", path=str(path)) from error
            item = self._item(kind, certificate)
            if item.path != path or data != certificate.public_bytes(Encoding.PEM):
                raise MedmailError("store-damaged", path=str(path))
            yield item

    def _crls(self) -> Iterator[Item]:
        newest: dict[str, Item] = {}
        for path in sorted(self._crl_folder.glob("*.crl")):
            data = _read(path)
            name, digest = _list_of(path), path.stem.partition(".")[2]
            if hashlib.sha256(data).hexdigest() != digest:
                raise MedmailError("store-damaged", path=str(path))
            try:
                item = Item("crl", digest, load_crl(data), path)
            except UNREADABLE as error:
                raise MedmailError("store-damaged", path=str(path)) from error
            # a kill between the new issue and the removal of the old leaves both
            if name not in newest or newer(item.crl, newest[name].crl):
                newest[name] = item
        yield from newest.values()


def _list_of(path: Path) -> str:
    """Which list a file is an issue of, and under which key."""
    return path.stem.partition(".")[0]


def _signer(
    crl: x509.CertificateRevocationList, at_hand: Sequence[x509.Certificate]
) -> x509.Certificate | None:
    read = read_crl(crl)
    if read is None:
        return None
    issuers = (candidate for candidate in at_hand if facts(candidate).subject == read.issuer)
    return next((issuer for issuer in issuers if read.signed_by(issuer)), None)


def _answered_at(der: bytes) -> dt.datetime | None:
    from medmail_cli.pki.path.ocsp import read_ocsp

    return max((answer.this_update for answer in read_ocsp(der)), default=None)


def _revokes(der: bytes, certificate: x509.Certificate) -> bool:
    """Whether a response says that the certificate is revoked, and not only held."""
    from medmail_cli.pki.path.ocsp import read_ocsp

    revocations = [answer.revoked for answer in read_ocsp(der) if answer.serial == serial_number(certificate)]
    return any(revocation is not None and not revocation.passing for revocation in revocations)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise MedmailError("store-damaged", path=str(path)) from error
