"""Judging certificates by the profile's rules, with what is at hand and, where that may be, with servers."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from medmail_cli.pki.path.evidence import NOTHING, Enclosed
from medmail_cli.pki.path.validation import Authorities, Judgement

if TYPE_CHECKING:
    from cryptography import x509

    from medmail_cli.pki.path.fitness import Purpose
    from medmail_cli.profile import Profile
    from medmail_cli.workflows.trust.revocation_fetch import Fetcher


@dataclass
class Validator:
    """Judges certificates; ``fetcher`` asks about those of unknown status, None uses what is at hand."""

    authorities: Authorities
    profile: "Profile"
    fetcher: "Fetcher | None" = None

    def judge(
        self,
        certificate: "x509.Certificate",
        enclosed: Enclosed = NOTHING,
        *,
        at: datetime,
        known_now: datetime | None,
        purpose: "Purpose",
    ) -> Judgement:
        """A judgement as of ``at``, and another one where asking servers brought something new.

        ``known_now`` is the instant as of which a revocation counts whatever its date; None for none.
        """

        def judged() -> Judgement:
            return self.authorities.judge(
                certificate,
                enclosed=enclosed,
                at=at,
                known_now=known_now,
                purpose=purpose,
                revocation=self.profile.revocation,
            )

        judgement = judged()
        if self.fetcher is not None and self.fetcher.settle(judgement):
            self.authorities = self.fetcher.trust.authorities
            judgement = judged()
        return judgement
