"""Values of attributes that may not become a level's name, because they tell who somebody is or open a door.

Counts keep the common values of a column by name, in tables and reports that outlive the log. These have no name there.
"""

from collections.abc import Collection, Iterable

from datasets_defs.redaction.kinds import USUAL
from datasets_defs.redaction.names import telling_ids
from datasets_defs.redaction.redact import finders


def telling(values: Iterable[str], ids: Collection[str] = ()) -> frozenset[str]:
    """Give those of the values that hold an address, a secret or a telephone number, or are one of the `ids`."""
    distinct = sorted(set(values))
    positions = telling_ids([(value,) for value in distinct], finders(USUAL))
    return frozenset(value for at, value in enumerate(distinct) if (at, 0) in positions or value in ids)
