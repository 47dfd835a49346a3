"""Another certificate for a key that stays (``enrol renew --same-key``)."""

import datetime as dt
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING

from cryptography import x509

from medmail_cli.model import Note
from medmail_cli.store.keys.identity import Identity, request_pem
from medmail_cli.store.keys.pending_requests import FileMemory, memory_of
from medmail_cli.workflows.audited import logged
from medmail_cli.workflows.enrol.certified import Enrolment, enrolment, serves_for, warnings, whom
from medmail_cli.workflows.enrol.key_pairs import Pair, kind_of, prover, request, voucher

if TYPE_CHECKING:
    from medmail_cli.store.keys.unlocked import Unlocked
    from medmail_cli.store.log.run import RunContext
    from medmail_cli.workflows.enrol.authority import Authority
    from medmail_cli.workflows.enrol.escrow import Escrow


def renew_same_key(
    store: "Unlocked",
    run: "RunContext",
    ca: "Authority | None",
    old: Identity,
    clock: Callable[[], dt.datetime],
    escrow: "Escrow | None",
) -> Generator[Enrolment | Note, None, bool]:
    """Have the identity's key certified again; by hand (``ca`` is None) the request is given out.

    The request is on disk before it leaves, and the next run sends the same one. Returns whether there
    is a certificate. Raises ``key-on-card`` and what the authority raises.
    """
    kept = FileMemory(store.keystore.folder / f"{old.id}.request")
    csr = _request(store, old, kept)
    if ca is None:
        text = request_pem(csr).decode()
        yield enrolment("waiting", old, request=text)
        return False
    private_key = store.unseal(old)
    facts = {"method": ca.method, "authority": ca.url, "key": old.key_type, "same-key": "yes"}
    with logged(run.acting(old.address), "enrol-renew", (old.key_sha256,), **facts):
        memory = memory_of(store.keystore, old)
        certificate, *chain = ca.renew(x509.load_der_x509_csr(csr), prover(store, old), memory)
        bears, pinned = whom(certificate, old.address)
        if escrow is not None and serves_for(certificate) == "encrypt":
            from medmail_cli.workflows.enrol.escrow import lay_down, signer_of

            signer = signer_of(store, old.address, certificate, clock())
            lay_down(escrow, signer, old.address, store.unseal(old), (certificate, *chain), clock())
        renewed = store.add(
            private_key, certificate, chain, addresses=bears, pinned=pinned, name=old.name,
            purpose=serves_for(certificate), method=old.method, now=clock(), replaces=[old.id],
            authority=ca.url,
        )  # fmt: skip
        memory.save(b"")
        kept.save(b"")
    yield enrolment("renewed", renewed)
    yield from warnings(renewed, clock())
    return True


def _request(store: "Unlocked", old: Identity, kept: FileMemory) -> bytes:
    """The request that a run before this one left, else a new one."""
    if waiting := kept.load():
        return waiting
    csr = request(
        store.unseal(old),
        Pair(kind_of(old), old.purpose),
        address=old.address,
        name=old.name,
        like=old.certificate,
        signer=voucher(store, old.address, old.key_type),
    )
    kept.save(csr)
    return csr
