"""The numbers in a program's JSON lines; apart, since a DAG imports it and must not import torch. Pure."""

import json
import re
from collections.abc import Mapping

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_./-]{0,79}")


def numbers_in(line: str) -> dict[str, float] | None:
    """Read the finite numbers of the JSON object that a line ends in; None where there is none. Pure.

    A progress bar may stand before it: bars go to the other output, and end in no line's end.
    """
    begin = line.find('{"')
    if begin < 0 or not line.rstrip().endswith("}"):
        return None
    try:
        content = json.loads(line[begin:])
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, Mapping):
        return None
    numbers = {
        name: float(value)
        for name, value in content.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and _NAME.fullmatch(name)
        if abs(value) < 1e300  # neither NaN nor infinity, nor a number of a thousand digits
    }
    return numbers or None
