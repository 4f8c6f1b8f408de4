"""A team's own trainer as a real process: what it gets, what it says, how it ends, and that it never outlives us."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.core.settings import ROOT
from datasets_defs.spec.model import ModelSpec
from datasets_defs.spec.trainers import CommandTrainer
from tests.waiting import wait_for
from training.data.snapshot import Snapshot, SnapshotFile
from training.fit.plan import Progress
from training.own.child import MARK
from training.own.given import Given, given_for
from training.own.run import Remembered, run
from training.prepare.checks import Record

NAME = "m|7|1"


@pytest.fixture
def given(home: Path) -> Given:
    folder = home / "attempt"
    made = Given(
        data=folder / "data", champion=folder / "champion", output=folder / "output",
        checkpoints=folder / "checkpoints", seed=3, gpus=0, max_seconds=60,
    )  # fmt: skip
    for each in (made.data, made.champion, made.output, made.checkpoints):
        each.mkdir(parents=True)
    return made


def script(home: Path, code: str, **more: object) -> CommandTrainer:
    (home / "models" / "train.py").write_text(f"import os, sys, time, pathlib\n{code}\n")
    places = ("--data", "{data}", "--out", "{output}", "--checkpoints", "{checkpoints}", "--seed", "{seed}")
    return CommandTrainer(kind="command", run=(sys.executable, "train.py", *places), **more)


def ran(trainer: CommandTrainer, given: Given, said: list[Progress] | None = None) -> Remembered:
    told = [] if said is None else said
    return run(trainer, given, given.data.parent, name=NAME, hold=lambda: None, tell=told.append)


def test_it_gets_its_folders_and_none_of_our_secrets(home: Path, given: Given, monkeypatch: pytest.MonkeyPatch):
    """Arguments and variables name the folders; passwords of Airflow, MLflow and the database are not passed on."""
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hush")
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "hush")
    monkeypatch.setenv("DRIFTLOOP_DATABASE_URL", "postgresql://x:hush@y/z")
    trainer = script(
        home,
        "import json; json.dump([sys.argv[1:], dict(os.environ)], open(sys.argv[4] + '/saw', 'w'))",
        environment={"TEAM": "research"},
    )
    assert ran(trainer, given).is_done
    arguments, environment = json.loads((given.output / "saw").read_text())
    assert arguments == [
        "--data", str(given.data), "--out", str(given.output), "--checkpoints", str(given.checkpoints), "--seed", "3",
    ]  # fmt: skip
    assert "hush" not in json.dumps(environment)
    assert (environment["DRIFTLOOP_CHAMPION"], environment["TEAM"]) == (str(given.champion), "research")


def test_what_it_says_is_progress_and_curves(home: Path, given: Given):
    """JSON lines are progress and metrics; other lines, progress bars, NaN and odd names are no harm."""
    lines = [
        'print("loading"); print(" 10%|#   |\\r 20%|##  |", end="\\n")',
        'print(\'{"step": 1, "steps": 4, "loss": 3.5, "lr": 0.1}\')',
        'print(\'{"step": 2, "loss": NaN, "a b": 1, "flag": true}\')',
        "print('{not json')",
        'print(\'{"step": 4, "loss": 2.5, "validation_bits_per_byte": 1.25, "tokens_per_second": 900}\')',
    ]
    said: list[Progress] = []
    state = ran(script(home, "\n".join(lines)), given, said)
    assert [(each.step, each.steps) for each in said] == [(1, 4), (2, 4), (4, 4)]
    assert (said[-1].loss, said[-1].validation, said[-1].tokens_per_second) == (2.5, 1.25, 900)
    assert [point[:2] for point in state.curves["loss"]] == [(1, 3.5), (4, 2.5)]
    assert set(state.curves) == {"loss", "lr", "validation_bits_per_byte", "tokens_per_second"}


def test_what_ended_well_is_not_run_again(home: Path, given: Given):
    """Our process died between its end and the registration: the next one takes what stands there."""
    trainer = script(home, "with open(sys.argv[4] + '/runs', 'a') as f: f.write('x')\nprint('{\"loss\": 2}')")
    first = ran(trainer, given)
    assert ran(trainer, given) == first
    assert (given.output / "runs").read_text() == "x"
    assert first.curves["loss"][0][1] == 2


@pytest.mark.parametrize(
    ("code", "more", "words"),
    [
        ("sys.exit('the data is odd')", {}, r"exit code 1\. It said last: the data is odd"),
        ("time.sleep(600)", {"silent_seconds": 0.5}, r"wrote no line for trainer.silent_seconds \(0.5 s\)"),
        (
            "pathlib.Path(sys.argv[6], 'big').write_bytes(bytes(3 * 2**20)); time.sleep(600)",
            {"max_disk_gib": 2 / 1024},
            "took more than trainer.max_disk_gib",
        ),
        ("raise RuntimeError('CUDA out of memory. Tried to allocate 2 GiB')", {}, "ran out of GPU memory: let it take"),
        ("raise MemoryError", {}, "ran out of memory"),
    ],
)
def test_each_ending_has_its_sentence_at_the_first_time(
    home: Path, given: Given, monkeypatch: pytest.MonkeyPatch, code: str, more: dict[str, float], words: str
):
    """An ending that trying again cannot help says so at once, and what to do; nothing is left running."""
    monkeypatch.setattr("training.own.run.DISK_SECONDS", 0.3)
    with pytest.raises(ContractError, match=words):
        ran(script(home, code, **more), given)
    assert alive() == []


def test_its_time_counts_over_all_its_runs(home: Path, given: Given):
    """A command that hangs is ended at its limit, however often it was begun before."""
    Remembered(seconds=59.5).save(given.data.parent)
    with pytest.raises(ContractError, match=r"did not end within retrain.max_seconds \(60 s\)"):
        ran(script(home, "time.sleep(600)"), given)


def test_it_may_ask_to_be_run_again(home: Path, given: Given):
    """Exit code 75, or a death by a signal after a new checkpoint, is tried again from what stands there."""
    code = """
mark = pathlib.Path(sys.argv[6], 'step')
step = int(mark.read_text()) if mark.exists() else 0
mark.write_text(str(step + 1))
if step == 0: sys.exit(75)
if step == 1: os.kill(os.getpid(), 9)
"""
    trainer = script(home, code)
    with pytest.raises(TransientError, match="asked to be run again"):
        ran(trainer, given)
    with pytest.raises(TransientError, match="killed by SIGKILL, and goes on"):
        ran(trainer, given)
    assert ran(trainer, given).is_done


def test_deaths_without_a_new_checkpoint_end_it(home: Path, given: Given):
    """Killed twice by the kernel at the same place, it is not tried thirty times."""
    trainer = script(home, "os.kill(os.getpid(), 9)")
    with pytest.raises(TransientError):
        ran(trainer, given)
    with pytest.raises(ContractError, match=r"killed by SIGKILL 2 times without a new checkpoint; the kernel does so"):
        ran(trainer, given)


@pytest.mark.parametrize(
    ("run_", "more", "words"),
    [
        (("no-such-program",), {}, "no program no-such-program on the PATH"),
        (("./train.sh",), {}, r"no program \./train\.sh in "),
        (("true",), {"directory": "/no/such"}, "directory /no/such is no folder"),
    ],
)
def test_a_wrong_command_is_named(given: Given, run_: tuple[str, ...], more: dict[str, str], words: str):
    """A program that is not there is named before anything is begun."""
    with pytest.raises(ContractError, match=words):
        ran(CommandTrainer(kind="command", run=run_, **more), given)


def test_who_wants_it_no_more_ends_it(home: Path, given: Given):
    """When the incident is over the command is ended with all its children."""
    child = f"subprocess.Popen([{sys.executable!r}, '-c', 'import time; time.sleep(600)'])"
    trainer = script(home, f"import subprocess; {child}; pathlib.Path(sys.argv[4], 'up').touch(); time.sleep(600)")

    def hold() -> None:
        if (given.output / "up").exists():
            raise ContractError("incident 7 is resolved")

    with pytest.raises(ContractError, match="incident 7 is resolved"):
        run(trainer, given, given.data.parent, name=NAME, hold=hold, tell=lambda _: None)
    assert alive() == []


RUNNER = """
import sys
from pathlib import Path
from tests.training.own.test_run import NAME, runs_from
runs_from(Path(sys.argv[1]))
"""


def runs_from(home: Path) -> None:
    folder = home / "attempt"
    given = Given(
        data=folder / "data", champion=folder / "champion", output=folder / "output",
        checkpoints=folder / "checkpoints", seed=3, gpus=0, max_seconds=60,
    )  # fmt: skip
    trainer = CommandTrainer(
        kind="command", run=(sys.executable, "train.py", "{output}"), directory=str(home / "models")
    )
    run(trainer, given, folder, name=NAME, hold=lambda: None, tell=lambda _: None)


def test_it_dies_with_whoever_watches_it(home: Path, given: Given):
    """Our process killed by SIGKILL takes the command and its children along; a second run would train beside it."""
    child = f"subprocess.Popen([{sys.executable!r}, '-c', 'import time; time.sleep(600)'])"
    script(home, f"import subprocess; {child}; pathlib.Path(sys.argv[1], 'up').touch(); time.sleep(600)")
    watcher = subprocess.Popen([sys.executable, "-c", RUNNER, str(home)], cwd=ROOT)
    wait_for((given.output / "up").exists)
    assert len(alive()) >= 3
    os.kill(watcher.pid, signal.SIGKILL)
    watcher.wait()
    wait_for(lambda: alive() == [])


def alive() -> list[int]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == NAME and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except (psutil.Error, OSError):
            continue
    return found


def test_rows_come_in_three_forms_and_the_judges_never(home: Path):
    """Training and validation rows stand apart, as Parquet, as prompt and completion, and as a chat."""
    with SnapshotFile(home / "rows.parquet") as rows:
        for part in ("holdout", "train", "validation", "corpus", "replay"):
            rows.add(part, [record(part, "")] if part == "corpus" else [record(part, f"prompt of {part} ")])
    spec = ModelSpec(name="m", base_model="gpt2", training_text="x", retrain={"replay_share": 0.5})
    given = given_for(spec, Snapshot.of(str(home / "rows.parquet"), None), home, home / "attempt")
    table = pq.read_table(given.data / "train.parquet").to_pylist()
    assert [row["part"] for row in table] == ["train", "corpus", "replay"]
    lines = [json.loads(line) for line in (given.data / "train.jsonl").read_text().splitlines()]
    assert lines[1] == {"prompt": "", "completion": "answer of corpus"}
    chats = [json.loads(line)["messages"] for line in (given.data / "train.chat.jsonl").read_text().splitlines()]
    assert [turn["role"] for turn in chats[0]] == ["user", "assistant"]
    assert [turn["role"] for turn in chats[1]] == ["assistant"]
    assert len((given.data / "validation.jsonl").read_text().splitlines()) == 1
    assert "holdout" not in "".join(path.read_text(errors="replace") for path in given.data.iterdir())


def record(part: str, prompt: str) -> Record:
    return Record(source="", place=0, request_id=f"r-{part}", prompt=prompt, reference=f"answer of {part}")
