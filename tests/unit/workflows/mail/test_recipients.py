"""Whom a letter goes to, and how strongly."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from medmail_cli.pki.path.validation import Authorities
from medmail_cli.profile import Profile
from medmail_cli.smime.fields import Mailbox
from medmail_cli.store.trust.contacts import Contacts
from medmail_cli.workflows.mail.recipients import plan_of
from medmail_cli.workflows.trust.lookup import KnownContacts, RecipientResolver
from medmail_cli.workflows.trust.validator import Validator
from tests.support.letters import NOW

STRANGER = "lab@hospital.test"
WHITELIST = frozenset({"hospital.test"})


@pytest.mark.parametrize("policy", ["when-possible", "off"])
@pytest.mark.parametrize("named", [frozenset[str](), frozenset({STRANGER})])
def test_what_answers_an_encrypted_letter_does_not_go_in_clear(
    tmp_path: Path, policy: Literal["when-possible", "off"], named: frozenset[str]
) -> None:
    profile = replace(Profile(), end_to_end=policy)
    resolver = RecipientResolver(
        [KnownContacts(Contacts(tmp_path))], Validator(Authorities([]), profile), profile, NOW
    )
    to = [Mailbox(STRANGER, "")]
    usual = plan_of(to, resolver, WHITELIST, sign_only=False, transport_only=named)
    assert (usual.protection, [one.address for one in usual.addressees]) == ("transport-only", [STRANGER])
    answer = plan_of(to, resolver, WHITELIST, sign_only=False, transport_only=named, confidential=True)
    assert (answer.protection, answer.addressees) == ("end-to-end", ())
    assert [(one.address, why) for one, why in answer.excluded] == [(STRANGER, "no-recipient-certificate")]
