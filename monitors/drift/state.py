"""The detector's state as bytes: evidence of every indicator, with the profile's revision before it."""

import struct

import numpy as np
from numpy.typing import NDArray

from datasets_defs.store.sketch_log import StoredSketch
from monitors.profiles.profile import Profile

_REVISION = struct.Struct("<i")


def state_bytes(profile: Profile, log_m: NDArray[np.float64]) -> bytes:
    """Give the detector's state as bytes, with the revision of the profile that it belongs to."""
    return _REVISION.pack(profile.revision) + log_m.astype("<f8").tobytes()


def state_after(before: StoredSketch | None, profile: Profile) -> NDArray[np.float64] | None:
    """Take the detector's state after the last judged window; a profile of another revision mostly begins anew."""
    if before is None or before.state is None:
        return None
    log_m = np.frombuffer(before.state, dtype="<f8", offset=_REVISION.size)
    return log_m if goes_on(profile, _REVISION.unpack_from(before.state)[0], len(log_m)) else None


def goes_on(profile: Profile, revision: int, size: int) -> bool:
    """Say whether a state of a revision is one of this profile, too."""
    if revision == profile.revision:
        return True
    return profile.continues and revision == profile.revision - 1 and size == profile.size
