"""Files that a backtest reads: a policy to try, and the shifts that are known to have happened."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from datasets_defs.core.errors import ContractError
from datasets_defs.core.windows import Window
from datasets_defs.spec.signals import DriftSpec
from ops.cli.shared.times import time_of


def read_policy(path: Path, present: DriftSpec) -> DriftSpec:
    """Read a YAML of `drift:` fields; fields that it leaves out are as they are now.

    Raises:
        ContractError: the file is unreadable, not YAML, or says something impossible.
    """
    try:
        content = yaml.safe_load(_text(path, "--policy"))
    except yaml.YAMLError as err:
        raise ContractError(f"--policy {path}: not readable as YAML: {err}") from err
    if not isinstance(content, dict):
        kind = "nothing" if content is None else type(content).__name__
        raise ContractError(f"--policy {path}: expected fields of a model's `drift:`, found {kind}")
    if set(content) == {"drift"} and isinstance(content["drift"], dict):
        content = content["drift"]
    try:
        return DriftSpec.model_validate({**present.model_dump(), **content})
    except ValidationError as err:
        mistakes = "; ".join(
            f"field {'.'.join(map(str, item['loc'])) or 'drift'}: {item['msg']}" for item in err.errors()
        )
        raise ContractError(f"--policy {path}: {mistakes}") from err


def read_truth(path: Path) -> list[Window]:
    """Read known shifts: JSON, a list of `[start, end]` or `{"start": …, "end": …}`; or CSV with those two columns.

    A shift holds from its start up to, not including, its end.

    Raises:
        ContractError: the file is unreadable, or holds something else.
    """
    text = _text(path, "--truth")
    rows = _json_rows(text, path) if text.lstrip().startswith(("[", "{")) else _csv_rows(text, path)
    return [_shift(row, f"--truth {path}, shift {number}") for number, row in enumerate(rows, 1)]


def _json_rows(text: str, path: Path) -> list[Any]:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as err:
        raise ContractError(f"--truth {path}: not readable as JSON: {err}") from err
    if not isinstance(content, list):
        raise ContractError(f"--truth {path}: expected a list of [start, end], found {type(content).__name__}")
    return content


def _csv_rows(text: str, path: Path) -> list[Any]:
    reader = csv.DictReader(text.splitlines(), skipinitialspace=True)
    names = [name.strip() for name in reader.fieldnames or ()]
    if not {"start", "end"} <= set(names):
        raise ContractError(
            f"--truth {path}: expected JSON, or CSV with columns start and end; found {names or 'nothing'}"
        )
    return [{(key or "").strip(): value for key, value in row.items()} for row in reader]


def _shift(row: Any, where: str) -> Window:
    match [row.get("start"), row.get("end")] if isinstance(row, Mapping) else row:
        case [str(start), str(end)]:
            pass
        case _:
            raise ContractError(f"{where}: expected a start and an end, found {row!r}")
    try:
        return Window(time_of(start, f"{where}: start"), time_of(end, f"{where}: end"))
    except ValueError as err:
        raise ContractError(f"{where}: {err}") from err


def _text(path: Path, option: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as err:
        raise ContractError(f"{option} {path}: cannot be read: {err}") from err
