"""Today's `data` section on text that came in under another one, or at set-up."""

import json
from pathlib import Path

from datasets_defs.spec.model import ModelSpec
from datasets_defs.spec.training import DataSpec
from tests.planted import ADDRESS, KEY, PLANTED, USER
from tests.training.prepare.test_pipeline import documents, prose, spec
from tests.training.snapshots import NAMES, assembled
from training.data.training_text import heldout_documents, spare_documents, training_documents
from training.prepare.report import sentence


def older(count: int) -> list[dict[str, str]]:
    """Rows of a snapshot that was frozen before anything was redacted; every tenth is German."""
    german = "Die Gemeinde hat beschlossen, dass die Straße im Herbst gesperrt und erst nach Ostern wieder aufgeht."
    return [
        {"part": "train", "request_id": f"o{n}", "source": "log", "user_id": f"{USER}-{n}"}
        | {"prompt": f"{german} {n} " if n % 10 == 0 else f"{prose(9_000_000 + n, 20)} {ADDRESS} {KEY} "}
        | {"reference": german if n % 10 == 0 else prose(9_500_000 + n)}
        for n in range(count)
    ]


def test_older_rows_pass_todays_policy():
    """Old rows are replayed without what is redacted today; those in other languages are left out, and counted."""
    rows, report = assembled(documents(120), older(400), spec=spec(languages=("en", "und")))
    replayed = [row for row in rows if row["part"] == "replay"]
    assert len(replayed) > 20
    assert not [planted for planted in PLANTED if planted in json.dumps(rows)]
    assert all("<email>" in row["prompt"] and "<secret>" in row["prompt"] for row in replayed)
    assert report.older.dropped == {"another language (de)": 40}
    assert "40 older rows are not replayed under today's policy: another language (de)" in sentence(report.plain())


def test_the_first_version_learns_under_the_policy(tmp_path: Path):
    """Text for the first version is redacted on every side, and text in other languages is no part of any."""
    texts = [row["prompt"] + row["reference"] for row in older(300)]
    file = tmp_path / "text.jsonl"
    file.write_text("\n".join(json.dumps({"text": text}) for text in texts))
    model = ModelSpec(name="m", base_model="x", training_text=str(file), data=DataSpec(languages=("en", "und")))
    sides = [training_documents(model), heldout_documents(model), spare_documents(model)]
    assert all(sides)
    assert sum(map(len, sides)) == 270
    assert not [planted for planted in PLANTED if planted in json.dumps(sides)]


def test_names_hide_users_and_keep_them_apart():
    """A name tells nothing without the key, is the same for the same user, and is not named again."""
    name = NAMES.of(USER)
    assert name == NAMES.of(USER) == NAMES.of(name)
    assert USER not in name
    assert name != NAMES.of(f"{USER}-2")
    assert name != type(NAMES)(b"another key").of(USER)
