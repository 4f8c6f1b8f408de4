"""The page on what is kept where, and for how long."""

from datasets_defs.core.settings import Settings
from datasets_defs.store.places import PLACES, Place
from ops.reference.markdown import code, page, table

LEAD = (
    "Every place that holds users' texts or grows, from `datasets_defs/store/places.py`. `maintain` deletes by this "
    "list once a day; `driftloop status --wide` shows it with the limits that are set. Below the home it tidies the "
    "disk of the machine that it runs on, and no other's."
)


def write() -> str:
    """Write the page."""
    header = ("place", "holds", "users' texts", "kept", "setting")
    return page("Retention", LEAD, table(header, [_row(place) for place in PLACES]))


def _row(place: Place) -> tuple[str, str, str, str, str]:
    kept = place.why if place.limit is None else f"{Settings.model_fields[place.limit].default} days {place.why}"
    name = code(place.name) if place.name.islower() else place.name
    return name, place.holds, "yes" if place.texts else "", kept, code(place.setting)
