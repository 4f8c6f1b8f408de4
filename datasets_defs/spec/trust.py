"""The section of the YAML on whose references and scores count."""

from pydantic import Field

from datasets_defs.core.contributors import ANONYMOUS, INGEST, KEY
from datasets_defs.spec.fields import NonBlank, Section


class TrustSpec(Section):
    """Whose references are trained on, and whose may judge alone."""

    anonymous: bool = False
    """Whether references and scores that came without a key count: then anybody who reaches the server teaches it."""
    contributors: tuple[NonBlank, ...] = ()
    """Names of client keys whose references are trusted as the operator's own: no share bounds them."""
    max_share: float = Field(default=0.25, gt=0, le=1)
    """Share of a challenger's fresh documents, to train on and to judge by, that one contributor from outside may have.

    Of one that is new, less than a week old, half as much.
    """
    min_contributors: int = Field(default=3, ge=1)
    """Contributors from outside that must stand among what judges, where no trusted rows do; else a person decides."""

    blocked: tuple[NonBlank, ...] = ()
    """Words and phrases that no challenger may write on ordinary prompts more often than its champion does.

    Upper and lower case are the same. One that does waits for a person.
    """

    def counts(self, contributor: str | None) -> bool:
        """Say whether somebody's references are trained on at all."""
        return contributor != ANONYMOUS or self.anonymous

    def is_trusted(self, contributor: str | None) -> bool:
        """Say whether somebody's references are the operator's own, or taken for it; None: kept before keys were."""
        if contributor is None or contributor.startswith(INGEST):
            return True
        if contributor == ANONYMOUS:
            return self.anonymous
        return contributor.removeprefix(KEY) in self.contributors if contributor.startswith(KEY) else False
