"""Every place that holds users' texts or grows, and how long things stay in it: `maintain` and people read one list."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from datasets_defs.core.settings import settings
from datasets_defs.store.sketch_log import SINGLE_DAYS


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where something is kept."""

    name: str
    """Of a table, of a folder (`artifacts/…` below the artifacts' root, `home/…` below the home), or of a server."""
    holds: str
    limit: str | None
    """Setting that says for how many days; None: for good, or as `why` says."""
    why: str
    """From when the days count, or why there is no limit."""
    texts: bool = False
    """Whether it holds texts of users."""

    @property
    def days(self) -> int | None:
        """For how many days a thing is kept."""
        return None if self.limit is None else int(getattr(settings(), self.limit))

    @property
    def age(self) -> timedelta:
        """For how long a thing is kept.

        Raises:
            TypeError: there is no limit.
        """
        return timedelta(days=int(getattr(settings(), str(self.limit))))

    @property
    def setting(self) -> str:
        """Give the variable that sets the limit; empty without one."""
        return f"DRIFTLOOP_{self.limit.upper()}" if self.limit else ""

    @property
    def kept(self) -> str:
        """Say in words how long things are kept."""
        return self.why if self.days is None else f"{self.days} days {self.why}"


_LOG, _VERDICT, _TRAINING = "retention_days", "verdict_retention_days", "training_retention_days"
_RECORD = "for good: it is the record of what served and why"
_ONE_EACH = "for good: one row for each model"
AIRFLOW = "Airflow's database"
_UNUSED = "after it was made; that of champion, previous champion and challenger stays"

PLACES = (
    Place(name="inference", holds="requests as they came, with prompt and completion", limit=_LOG,
          why="after the answer, whole days at once", texts=True),
    Place(name="request_key", holds="ids of requests", limit=_LOG, why="after the answer"),
    Place(name="feedback", holds="references and scores of people", limit=_LOG, why="after they came", texts=True),
    Place(name="quarantined_row", holds="rows that could not be read", limit="quarantine_retention_days",
          why="after they came", texts=True),
    Place(name="verdict", holds="verdicts; masked examples of broken rows", limit=_VERDICT, why="after the window",
          texts=True),
    Place(name="reference_profile", holds="where each version's reference is", limit=_TRAINING, why=_UNUSED),
    Place(name="window_sketch", holds="counts of windows; common values of columns", limit=_LOG,
          why=f"after the window; older than {SINGLE_DAYS} days they are added up by the day", texts=True),
    Place(name="drift_profile", holds="what windows are compared with; common values of columns", limit=_TRAINING,
          why=_UNUSED, texts=True),
    Place(name="label_reference", holds="sums of each version's first scores", limit=_TRAINING, why=_UNUSED),
    Place(name="champion", holds="which version serves", limit=None, why=_ONE_EACH),
    Place(name="incident", holds="incidents with their evidence; masked examples", limit=None, why=_RECORD,
          texts=True),
    Place(name="incident_event", holds="the history", limit=None, why=f"{_RECORD}; the loop's role cannot delete it"),
    Place(name="history_head", holds="the newest event", limit=None, why=_ONE_EACH),
    Place(name="evaluation", holds="the gate's figures", limit=None, why=_RECORD),
    Place(name="promotion", holds="changes of champion", limit=None, why=_RECORD),
    Place(name="pause", holds="who paused a model", limit=None, why=f"{_ONE_EACH} that is paused"),
    Place(name="retirement", holds="who retired a model", limit=None, why=f"{_ONE_EACH} that is retired"),
    Place(name="gpu_charge", holds="what trainings, jobs and added capacity took from the budget", limit=_VERDICT,
          why="after it was taken"),
    Place(name="gpu_lease", holds="who took each GPU last", limit=None, why="for good: one row for each GPU"),
    Place(name="gpu_job", holds="GPU jobs, what they said last and returned", limit=_VERDICT,
          why="after it was last heard of"),
    Place(name="gpu_scaling", holds="capacity that was added for a time", limit=_VERDICT, why="after it came down"),
    Place(name="route", holds="which users two versions answer", limit=None,
          why=f"{_ONE_EACH} whose challenger is rolled out"),
    Place(name="arm_tally", holds="requests and failures by hashes of users", limit=_LOG, why="after it last grew"),
    Place(name="shadow_score", holds="losses of both champions, by request", limit=_LOG, why="after the answer"),
    Place(name="registered_version", holds="what each version is", limit=None,
          why="for good: nothing else is loaded under its number"),
    Place(name="client_key", holds="hashes of clients' keys, and what they are for", limit=None,
          why="for good: the log names keys that were revoked, too"),
    Place(name="spec_seen", holds="each model's YAML as it was last read", limit=None, why=_ONE_EACH),
    Place(name="name_key", holds="the key of users' names", limit=None, why="for good: one row"),
    Place(name="text_run", holds="runs of generate_texts", limit=_TRAINING, why="after it was planned"),
    Place(name="generated_text", holds="prompts with what the model wrote for them", limit=_TRAINING,
          why="after it was planned", texts=True),
    Place(name="published_text", holds="texts that were published", limit=_TRAINING, why="after it was published",
          texts=True),
    Place(name="batch_run", holds="runs of batch_inference", limit=_TRAINING, why="after it was opened"),
    Place(name="batch_shard", holds="shards of these runs", limit=_TRAINING, why="after it was opened"),
    Place(name="pairs_take", holds="takes of image-text pairs", limit=None,
          why="for good: what stands in it is not prepared again"),
    Place(name="pairs_key", holds="paths of images and captions that were taken", limit=None,
          why="for good: what stands in it is not prepared again", texts=True),
    Place(name="prompt_vector", holds="where some prompts of each window lie, as numbers", limit=_LOG,
          why="after the answer, and no longer than the log holds the request"),
    Place(name="alert_outbox", holds="messages to people", limit="message_retention_days",
          why="after they were sent; those of an open incident and unsent ones stay"),
    Place(name="heartbeat", holds="when each part was last heard of", limit=_VERDICT, why="after it was last heard of"),
    Place(name="artifacts/reports", holds="Evidently's reports", limit="report_retention_days", why="after the window",
          texts=True),
    Place(name="artifacts/snapshots", holds="rows that versions were trained on, and what was left out",
          limit=_TRAINING, why=_UNUSED, texts=True),
    Place(name="artifacts/references", holds="rows that versions are judged against", limit=_TRAINING, why=_UNUSED,
          texts=True),
    Place(name="artifacts/evaluations", holds="rows that challengers were judged by", limit=_TRAINING,
          why="after the evaluation; those of open incidents stay", texts=True),
    Place(name="artifacts/generations", holds="completions of reference prompts", limit=_TRAINING,
          why="after they were written", texts=True),
    Place(name="artifacts/texts", holds="reports on texts that were written", limit=_TRAINING,
          why="after they were written", texts=True),
    Place(name="artifacts/batches", holds="rows of batch_inference with their completions, unless `batch.output` says "
          "where", limit=_TRAINING, why="after they were written", texts=True),
    Place(name="artifacts/training", holds="how trainings ended", limit=_TRAINING,
          why="after the training; those of open incidents stay"),
    Place(name="artifacts/pairs", holds="prepared pairs, their reports, and what was left out and why", limit=None,
          why="for good: models are trained on them; a take that nobody needs is deleted by hand", texts=True),
    Place(name="artifacts/demo", holds="what the demo found", limit=None, why="for good: one file"),
    Place(name="home/cache", holds="copies of versions", limit=None,
          why="while a version is champion, previous champion or challenger, and a day"),
    Place(name="home/serving-cache", holds="copies of versions that serve", limit=None,
          why="the newest three of a model"),
    Place(name="home/training", holds="checkpoints and logs of trainings", limit=None,
          why="while the training is wanted; a week after one by hand stood still; the newest 20 logs of a model",
          texts=True),
    Place(name="home/gpus", holds="locks of this machine's GPUs", limit=None, why="for good: one empty file for each"),
    Place(name="home/jobs", holds="checkpoints and logs of GPU jobs", limit=None,
          why="until nothing was written for a week", texts=True),
    Place(name="home/tmp", holds="files at work", limit=None, why="while they are worked on; a killed one's for a day",
          texts=True),
    Place(name="home/logs", holds="logs of the local stack", limit="task_log_retention_days",
          why="after a task's log was written; a component's last 20 MB"),
    Place(name="home/pipelines", holds="what `driftloop pipelines` writes about and completes", limit=None,
          why="for good: three files"),
    Place(name="home/prometheus", holds="metrics of the local stack", limit=None, why="30 days, by Prometheus itself"),
    Place(name="home/mlflow-artifacts", holds="files of versions, in the local stack's MLflow", limit=None,
          why="for good, as in any MLflow"),
    Place(name="MLflow", holds="versions, their cards and curves", limit=None,
          why="for good, until a person deletes a version in MLflow"),
    Place(name=AIRFLOW, holds="runs of DAGs", limit="airflow_retention_days",
          why="after they began, where the Connection `airflow_metadata` is there; else for good"),
)  # fmt: skip
"""Tables of the loop first, in the order of `tables.py`, then files, then other servers."""
_BY_NAME = {place.name: place for place in PLACES}


def place(name: str) -> Place:
    """Give the place of a name."""
    return _BY_NAME[name]


def limited() -> Iterator[Place]:
    """Give the places whose limit is a setting."""
    return (candidate for candidate in PLACES if candidate.limit is not None)
