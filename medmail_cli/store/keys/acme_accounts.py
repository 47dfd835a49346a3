"""The keys of accounts at ACME authorities, each sealed in a file of its own beside the identities.

``account-<digest of the URL>.json`` in the keystore's folder is a checked document (see
:mod:`.seal`): the directory's URL and a P-256 key (PKCS#8, DER) sealed under a subkey of the
keystore, bound to the URL. Losing it costs a new account: certificates do not depend on it.
"""

import hashlib
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from medmail_cli.cms.keys import SoftwareKey
from medmail_cli.errors import MedmailError
from medmail_cli.store import files
from medmail_cli.store.keys import seal

if TYPE_CHECKING:
    from medmail_cli.store.keys.unlocked import Unlocked

_VERSION = 1
_LABEL = "acme account"


def account_key(store: "Unlocked", url: str) -> SoftwareKey:
    """The key of the account at ``url``, made where there is none; on disk when this returns.

    Raises ``store-damaged``, ``newer-store``, ``not-writable`` and ``disk-full``.
    """
    digest = hashlib.sha256(url.encode()).hexdigest()[:32]
    path = store.keystore.folder / f"account-{digest}.json"
    bound = f"medmail-account\0{url}".encode()
    with store.keystore.writing():
        if not path.exists():
            private = ec.generate_private_key(ec.SECP256R1()).private_bytes(
                serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            sealed = seal.seal(store.subkey(_LABEL), private, bound)
            files.write_atomic(
                path, seal.document({"medmail-account": _VERSION, "url": url, "sealed": sealed})
            )
        try:
            content = seal.read_document(path.read_bytes())
            if content.get("medmail-account") != _VERSION:
                raise MedmailError("newer-store", path=str(path))
            der = seal.unseal(store.subkey(_LABEL), content.get("sealed"), bound)
        except ValueError:
            der = None
    if der is None:
        raise MedmailError("store-damaged", path=str(path))
    return SoftwareKey(serialization.load_der_private_key(der, None))
