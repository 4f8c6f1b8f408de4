"""The loop's tables, as SQLAlchemy Core. Migrations are compared with this module by a test."""

from sqlalchemy import (
    ARRAY,
    REAL,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from datasets_defs.core.incidents import TERMINAL, State

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Timestamp = DateTime(timezone=True)
_states = ", ".join(f"'{s.value}'" for s in State)
_terminal = ", ".join(sorted(f"'{s.value}'" for s in TERMINAL))

inference = Table(
    "inference",
    metadata,
    Column("model", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("at", Timestamp, nullable=False, comment="when the request was answered"),
    Column("model_version", Integer, comment="registry version that answered; null in a foreign log"),
    Column("prompt", Text, nullable=False),
    Column("completion", Text),
    Column("prompt_bits_per_byte", Float, comment="loss on text the model did not write; needs no label"),
    Column("completion_bits_per_byte", Float),
    Column("prompt_tokens", Integer),
    Column("completion_tokens", Integer),
    Column("latency_seconds", Float),
    Column("user_id", Text),
    Column("session_id", Text),
    Column("attributes", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Column("messages", JSONB, comment="the conversation as it was asked; null for a prompt"),
    Column("choices", JSONB, comment="every choice, where there were several or a tool was called"),
    Column("finish_reason", Text, comment="why the answer ended; cancelled: the caller went away"),
    Column("first_token_seconds", Float, comment="from arrival to the first text of a stream"),
    Column("client", Text, comment="name of the key that asked; null: without keys"),
    PrimaryKeyConstraint("model", "request_id", "at"),
    Index("ix_inference_model_at", "model", "at"),
    postgresql_partition_by="RANGE (at)",
    comment="the inference log; one partition a day; request_key keeps (model, request_id) unique over all days",
)

request_key = Table(
    "request_key",
    metadata,
    Column("model", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("at", Timestamp, nullable=False, comment="when the request was answered, as it was logged first"),
    PrimaryKeyConstraint("model", "request_id"),
    Index("ix_request_key_model_at", "model", "at"),
    comment="ids of logged requests, unique over all days; they go with the log's days",
)

feedback = Table(
    "feedback",
    metadata,
    Column("model", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("reference", Text, comment="what a person wrote for the prompt"),
    Column("score", Float, comment="a person's rating, 0..1"),
    Column("received_at", Timestamp, nullable=False, server_default=func.now()),
    Column(
        "contributor",
        Text,
        comment="whose word it is: key:NAME, user:ID, ingest:WHO, anonymous; null: kept before this was",
    ),
    PrimaryKeyConstraint("model", "request_id"),
    CheckConstraint("reference IS NOT NULL OR score IS NOT NULL", name="says_something"),
    comment="late references and scores; they join the log by request id, and may arrive before it",
)

quarantined_row = Table(
    "quarantined_row",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("model", Text, nullable=False),
    Column("source", Text, nullable=False, comment="file that held the row"),
    Column("row_number", BigInteger, nullable=False, comment="1-based line or row"),
    Column("reason", Text, nullable=False),
    Column("content", Text, comment="the row as found, cut to 10,000 characters"),
    Column("at", Timestamp, nullable=False, server_default=func.now()),
    UniqueConstraint("model", "source", "row_number"),
    comment="rows that could not be ingested, and why",
)

verdict = Table(
    "verdict",
    metadata,
    Column("model", Text, nullable=False),
    Column("signal", Text, nullable=False),
    Column("window_start", Timestamp, nullable=False),
    Column("window_end", Timestamp, nullable=False),
    Column("condition", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("method", Text, nullable=False),
    Column("score", Float),
    Column("limit", Float),
    Column("champion_version", Integer),
    Column("evidence", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Column("judged_at", Timestamp, nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("model", "signal", "window_end", "window_start"),
    CheckConstraint("condition IN ('OK', 'WARN', 'BAD', 'NO_DATA', 'STALE')", name="condition"),
    comment="one judgement per model, signal and window",
)

reference_profile = Table(
    "reference_profile",
    metadata,
    Column("model", Text, nullable=False),
    Column("version", Integer, nullable=False, comment="model version that the rows are a reference for"),
    Column("uri", Text, nullable=False, comment="Parquet: request_id, prompt, reference, prompt_bits_per_byte, role"),
    Column("sha256", Text, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("source", Text, nullable=False, comment="where the rows come from, in words"),
    Column("created_at", Timestamp, nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("model", "version"),
    comment="what each champion is judged against; bound to its version, so it changes with promotion and rollback",
)

window_sketch = Table(
    "window_sketch",
    metadata,
    Column("model", Text, nullable=False),
    Column("version", Integer, nullable=False, comment="model version that answered the rows"),
    Column("window_end", Timestamp, nullable=False),
    Column(
        "window_start", Timestamp, nullable=False, comment="earlier than the window's own, if it carries others over"
    ),
    Column("encoding", Text, nullable=False, comment="how rows became counts; only equal ones add up"),
    Column("rows", BigInteger, nullable=False),
    Column("content", LargeBinary, nullable=False, comment="counts of every column"),
    Column("state", LargeBinary, comment="the detector's after this window; null if drift was not judged"),
    Column("judged", Boolean, nullable=False, comment="false: too few rows, which the next window counts again"),
    Column("windows", Integer, nullable=False, server_default=text("1"), comment="more than 1: a day's, added up"),
    Column("flooded", Text, comment="that one prompt filled the rows, in words; null: none did"),
    PrimaryKeyConstraint("model", "version", "window_end"),
    comment="what is kept of each window's rows: counts that add up",
)

drift_profile = Table(
    "drift_profile",
    metadata,
    Column("model", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("revision", Integer, nullable=False, comment="1, 2, 3 … per version"),
    Column("effective_from", Timestamp, comment="windows that begin earlier have the one before; null: all windows"),
    Column("source", Text, nullable=False, comment="what it was made from, in words"),
    Column("rows", BigInteger, nullable=False),
    Column("encoding", Text, nullable=False, comment="SHA-256 of the encoding that its content begins with"),
    Column("content", LargeBinary, nullable=False, comment="encoding, reference counts and tolerances"),
    Column("created_at", Timestamp, nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("model", "version", "revision"),
    comment="what windows are compared with; bound to a model version, and never changed, only followed by another",
)

label_reference = Table(
    "label_reference",
    metadata,
    Column("model", Text, nullable=False),
    Column("label", Text, nullable=False, comment="name in the spec"),
    Column("version", Integer, nullable=False),
    Column("window_start", Timestamp, nullable=False),
    Column("window_end", Timestamp, nullable=False, comment="rows up to here are in it; later ones are judged"),
    Column("labels", BigInteger, nullable=False),
    Column("total", Float, nullable=False, comment="sum of the scores"),
    Column("squares", Float, nullable=False, comment="sum of their squares"),
    Column("icc", Float, nullable=False, comment="how much alike the scores of one user are, 0..1"),
    Column("created_at", Timestamp, nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("model", "label", "version"),
    comment="scores of a version's first labels, which its later ones are compared with; never changed",
)

champion = Table(
    "champion",
    metadata,
    Column("model", Text, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("previous_version", Integer, comment="where a rollback goes"),
    Column("since", Timestamp, nullable=False, server_default=func.now()),
    Column("token", BigInteger, nullable=False, server_default=text("1"), comment="grows with every change"),
    comment="which version serves; the registry's aliases are copies of this",
)

incident = Table(
    "incident",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("model", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("signal", Text, nullable=False),
    Column("opened_at", Timestamp, nullable=False, server_default=func.now()),
    Column("updated_at", Timestamp, nullable=False, server_default=func.now()),
    Column("degraded_since", Timestamp, nullable=False),
    Column("attempt", Integer, nullable=False, server_default=text("0")),
    Column("rings", Integer, nullable=False, server_default=text("0")),
    Column("rung_at", Timestamp),
    Column("token", BigInteger, nullable=False, server_default=text("0")),
    Column("claimed_by", Text),
    Column("lease_until", Timestamp),
    Column("not_before", Timestamp),
    Column("cause", Text),
    Column("action", Text),
    Column("challenger_version", Integer),
    Column("approved", Boolean, nullable=False, server_default=text("false")),
    Column("ordered_by", Text, comment="person at whose word the next step is taken; null: at the loop's own"),
    Column("closed_at", Timestamp),
    Column("evidence", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    CheckConstraint(f"state IN ({_states})", name="state"),
    Index(
        "uq_incident_one_open_per_model",
        "model",
        unique=True,
        postgresql_where=text(f"state NOT IN ({_terminal})"),
    ),
    comment="the ledger: one row per incident, moved only by compare-and-set",
)

incident_event = Table(
    "incident_event",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("model", Text, nullable=False),
    Column("seq", BigInteger, nullable=False, comment="1, 2, 3 … per model"),
    Column("incident_id", BigInteger, ForeignKey("incident.id"), comment="null for what concerns the model alone"),
    Column("at", Timestamp, nullable=False),
    Column("kind", Text, nullable=False),
    Column("from_state", Text),
    Column("state", Text),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("evidence", JSONB, nullable=False),
    Column("prev_hash", Text, nullable=False),
    Column("hash", Text, nullable=False),
    Column(
        "origin_incident_id",
        BigInteger,
        comment="the incident's number in the installation that wrote the event; null: it is this one",
    ),
    UniqueConstraint("model", "seq"),
    Index("ix_incident_event_kind", "model", "kind", "seq"),
    Index("ix_incident_event_incident", "incident_id", "seq"),
    comment="what happened, in order; each row's hash covers the one before; never updated",
)

history_head = Table(
    "history_head",
    metadata,
    Column("model", Text, primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("hash", Text, nullable=False),
    comment="each history's newest event, written by a trigger that runs as the owner",
)

evaluation = Table(
    "evaluation",
    metadata,
    Column("incident_id", BigInteger, ForeignKey("incident.id"), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("model", Text, nullable=False),
    Column("champion_version", Integer, nullable=False),
    Column("challenger_version", Integer, nullable=False),
    Column("rows_uri", Text, nullable=False, comment="the frozen rows both were scored on"),
    Column("rows_sha256", Text, nullable=False),
    Column("scores", JSONB, nullable=False, comment="bits per byte of both, by slice, with intervals"),
    Column("decision", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", Timestamp, nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("incident_id", "attempt"),
    CheckConstraint("decision IN ('accept', 'reject', 'inconclusive')", name="decision"),
    comment="one evaluation per attempt, with the gate's decision",
)

promotion = Table(
    "promotion",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("model", Text, nullable=False),
    Column("incident_id", BigInteger, ForeignKey("incident.id")),
    Column("kind", Text, nullable=False, comment="bootstrap | promote | roll_back | revert | drill | drill_end"),
    Column("from_version", Integer),
    Column("to_version", Integer, nullable=False),
    Column("token", BigInteger, nullable=False, comment="champion token that this change set"),
    Column("reason", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("at", Timestamp, nullable=False, server_default=func.now()),
    Column("confirmed_at", Timestamp, comment="when serving reported the version"),
    UniqueConstraint("model", "token"),
    comment="every change of champion, in order",
)

pause = Table(
    "pause",
    metadata,
    Column("model", Text, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("since", Timestamp, nullable=False, server_default=func.now()),
    Column("until", Timestamp, nullable=False, comment="when it ends by itself"),
    comment="models for which the loop watches and tells, and does nothing else; no row: it acts",
)

retirement = Table(
    "retirement",
    metadata,
    Column("model", Text, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("since", Timestamp, nullable=False, server_default=func.now()),
    Column("closes_route", Boolean, nullable=False, comment="whether the gateway answers no requests for it"),
    Column("drops_aliases", Boolean, nullable=False, comment="whether the registry's aliases are taken away"),
    comment="models that the loop leaves alone until a person brings them back; no row: it acts",
)

gpu_charge = Table(
    "gpu_charge",
    metadata,
    Column("key", Text, primary_key=True, comment="model|incident|attempt: an attempt is charged once"),
    Column("model", Text, nullable=False),
    Column("at", Timestamp, nullable=False, server_default=func.now(), comment="when it was taken from the budget"),
    Column("gpu_hours", Float, nullable=False, comment="what was set aside; once settled, what was used"),
    Column("settled", Boolean, nullable=False, server_default=text("false")),
    CheckConstraint("gpu_hours >= 0", name="gpu_hours"),
    Index("ix_gpu_charge_at", "at"),
    comment="what trainings, jobs and added capacity took from the fleet's budget of GPU-hours",
)

gpu_lease = Table(
    "gpu_lease",
    metadata,
    Column("machine", Text, nullable=False),
    Column("device", Text, nullable=False, comment="as CUDA_VISIBLE_DEVICES names it"),
    Column("holder", Text, nullable=False, comment="who took it last; a lock says whether it is still held"),
    Column("since", Timestamp, nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("machine", "device"),
    comment="who took each GPU of a machine last",
)

gpu_job = Table(
    "gpu_job",
    metadata,
    Column("key", Text, primary_key=True, comment="dag/task/run/map index: the same for every try"),
    Column("job", Text, nullable=False, comment="dag.task"),
    Column("machine", Text, nullable=False),
    Column("gpus", Integer, nullable=False),
    Column("attempt", Integer, nullable=False, comment="1, 2 …: each process of the job has its own"),
    Column("state", Text, nullable=False),
    Column("devices", JSONB, comment="GPUs that it leased; null: none yet"),
    Column("progress", JSONB, comment="numbers that it said last"),
    Column("message", Text, nullable=False, server_default="", comment="what it waits for, or how it ended"),
    Column("exit_code", Integer),
    Column("result", JSONB, comment="what it returned"),
    Column("submitted_at", Timestamp, nullable=False, server_default=func.now()),
    Column("begun_at", Timestamp, comment="when this attempt had its GPUs"),
    Column("beat_at", Timestamp, nullable=False, server_default=func.now(), comment="when it was last heard of"),
    Column("ended_at", Timestamp),
    Column("taken_at", Timestamp, comment="when a task took its result; run again afterwards, it begins anew"),
    CheckConstraint("state IN ('waiting', 'running', 'ended')", name="state"),
    Index("ix_gpu_job_beat_at", "beat_at"),
    comment="jobs of GPUJobOperator",
)

gpu_scaling = Table(
    "gpu_scaling",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("model", Text, nullable=False),
    Column("key", Text, nullable=False, unique=True, comment="of the request that began it"),
    Column("newest_key", Text, nullable=False, comment="of the request that changed it last"),
    Column("state", Text, nullable=False),
    Column("before", Integer, nullable=False, comment="replicas to return to"),
    Column("replicas", Integer, nullable=False, comment="replicas while it lasts"),
    Column("gpus_per_replica", Integer, nullable=False),
    Column("target", JSONB, nullable=False, comment="the YAML's section `scale` as it was when this began"),
    Column("begun_at", Timestamp, nullable=False, server_default=func.now()),
    Column("changed_at", Timestamp, nullable=False, server_default=func.now()),
    Column("until", Timestamp, nullable=False, comment="when it comes down by itself"),
    Column("ended_at", Timestamp),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    CheckConstraint("state IN ('rising', 'up', 'falling', 'down')", name="state"),
    Index("uq_gpu_scaling_one_per_model", "model", unique=True, postgresql_where=text("state <> 'down'")),
    comment="capacity that was added for a time; one at a time per model",
)

route = Table(
    "route",
    metadata,
    Column("model", Text, primary_key=True),
    Column("incident_id", BigInteger, ForeignKey("incident.id"), nullable=False),
    Column("champion_version", Integer, nullable=False),
    Column("challenger_version", Integer, nullable=False),
    Column("step", Integer, nullable=False, comment="0, 1, 2 … of the steps in the YAML; the one that is wanted"),
    Column("share", Float, nullable=False, comment="of users whom the challenger answers now"),
    Column("replicas", JSONB, nullable=False, comment="addresses that hold the challenger; empty: the one server both"),
    Column("held", JSONB, nullable=False, comment="addresses that answer nobody while they are brought to a version"),
    Column("since", Timestamp, comment="when the wanted step's share was reached; null: it is not yet"),
    Column("ending", Boolean, nullable=False, comment="whether the challenger leaves, and nobody is answered by it"),
    Column("token", BigInteger, nullable=False, comment="grows with every change"),
    CheckConstraint("share >= 0 AND share <= 1", name="share"),
    comment="which users two versions of a model answer, while both serve; no row: the champion answers all",
)

arm_tally = Table(
    "arm_tally",
    metadata,
    Column("model", Text, nullable=False),
    Column("incident_id", BigInteger, nullable=False),
    Column("step", Integer, nullable=False),
    Column("version", Integer, nullable=False, comment="whose users asked"),
    Column("bucket", Integer, nullable=False, comment="of a hash of the user: users cannot be told from it"),
    Column("requests", BigInteger, nullable=False),
    Column("errors", BigInteger, nullable=False),
    Column("at", Timestamp, nullable=False, server_default=func.now(), comment="when it last grew"),
    PrimaryKeyConstraint("model", "incident_id", "step", "version", "bucket"),
    CheckConstraint("errors >= 0 AND errors <= requests", name="errors"),
    comment="requests and failures of both versions in a step of a rollout, as gateways counted them",
)

shadow_score = Table(
    "shadow_score",
    metadata,
    Column("model", Text, nullable=False),
    Column("champion_version", Integer, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("previous_version", Integer, nullable=False),
    Column("at", Timestamp, nullable=False, comment="when the request was answered"),
    Column("user_id", Text),
    Column("bytes", Integer, nullable=False, comment="of the prompt, UTF-8"),
    Column("champion_bits", Float, nullable=False),
    Column("previous_bits", Float, nullable=False),
    Column("scored_at", Timestamp, nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("model", "champion_version", "request_id"),
    CheckConstraint("bytes > 0", name="bytes"),
    comment="prompts answered by a champion on probation, scored by the champion before it as well",
)

registered_version = Table(
    "registered_version",
    metadata,
    Column("model", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("manifest_sha256", Text, nullable=False),
    Column("actor", Text, nullable=False, comment="who registered it, or how the loop came to know it"),
    Column("base", Text, comment="the base model that it descends from; null: not known"),
    Column("adapter_of", Integer, comment="version whose weights its adapter is for; null: it has weights of its own"),
    Column("at", Timestamp, nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("model", "version"),
    comment="what each version is: nothing else is loaded under its number; added to, never changed",
)

client_key = Table(
    "client_key",
    metadata,
    Column("id", Text, primary_key=True, comment="the part of the key that is no secret"),
    Column("name", Text, nullable=False, comment="who holds it"),
    Column("sha256", LargeBinary, nullable=False, comment="of the whole key, whose secret is 256 random bits"),
    Column("scopes", JSONB, nullable=False, comment="list of ask, references, read"),
    Column("models", JSONB, comment="names of the models it is for; null: all"),
    Column("requests_per_minute", Integer, comment="null: no limit"),
    Column("created_at", Timestamp, nullable=False, server_default=func.now()),
    Column("created_by", Text, nullable=False),
    Column("revoked_at", Timestamp),
    Column("revoked_by", Text),
    UniqueConstraint("name"),
    CheckConstraint("requests_per_minute > 0", name="requests_per_minute"),
    comment="who may ask the gateway, and for what; the keys themselves are kept nowhere",
)

spec_seen = Table(
    "spec_seen",
    metadata,
    Column("model", Text, primary_key=True),
    Column("at", Timestamp, nullable=False, server_default=func.now(), comment="when the loop first read it so"),
    Column("version", Text, nullable=False, comment="of driftloop, which knows the fields and their defaults"),
    Column("content", JSONB, nullable=False, comment="every field of the model's YAML, defaults included"),
    comment="each model's YAML as the loop last read it: what an edit is held against",
)

name_key = Table(
    "name_key",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("key", LargeBinary, nullable=False, comment="32 random bytes"),
    CheckConstraint("id = 1", name="one_row"),
    comment="the key of the names that stand for users in files; one row, made with the table",
)

text_run = Table(
    "text_run",
    metadata,
    Column("id", Text, primary_key=True, comment="the run of Airflow that planned it"),
    Column("model", Text, nullable=False),
    Column("why", Text, nullable=False),
    Column("asked_model", Text, nullable=False, comment="the model's name at the API"),
    Column("version", Integer, comment="version that served when it was planned; null: none, or not ours"),
    Column("planned_at", Timestamp, nullable=False, server_default=func.now()),
    Column("active_at", Timestamp, nullable=False, server_default=func.now(), comment="when it last kept an answer"),
    Column("figures", JSONB, nullable=False, comment="topics, unreadable rows, prompts that were answered before"),
    Column("tokens", BigInteger, nullable=False, server_default=text("0"), comment="of prompts and answers"),
    Column("cost", Float, nullable=False, server_default=text("0")),
    Column("stopped", Text, comment="why it asked no further; null: nothing stopped it"),
    Column("report_uri", Text),
    Index("ix_text_run_model", "model", "planned_at"),
    comment="runs of generate_texts",
)

generated_text = Table(
    "generated_text",
    metadata,
    Column("model", Text, nullable=False),
    Column("key", Text, nullable=False, comment="hash of all that decides what is asked"),
    Column("run_id", Text, nullable=False),
    Column("batch", Integer, nullable=False),
    Column(
        "state", Text, nullable=False, comment="planned | answered | accepted | review | rejected | failed | published"
    ),
    Column("topic", JSONB, nullable=False),
    Column("prompt", Text, nullable=False),
    Column("completion", Text),
    Column("finish_reason", Text),
    Column("fault", Text, comment="what was wrong with the last answer, by name"),
    Column("reasons", JSONB, nullable=False, server_default=text("'[]'::jsonb"), comment="why it is in its state"),
    Column("scores", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Column("tries", Integer, nullable=False, server_default=text("0"), comment="requests that were sent"),
    Column("prompt_tokens", Integer, nullable=False, server_default=text("0")),
    Column("completion_tokens", Integer, nullable=False, server_default=text("0")),
    Column("cost", Float, nullable=False, server_default=text("0")),
    Column("decided_by", Text, comment="who decided, where a person did"),
    Column("planned_at", Timestamp, nullable=False, server_default=func.now()),
    Column("answered_at", Timestamp),
    Column("published_at", Timestamp),
    PrimaryKeyConstraint("model", "key"),
    Index("ix_generated_text_run", "run_id", "batch"),
    Index("ix_generated_text_state", "model", "state"),
    comment="prompts of generate_texts with their answers: what is answered is never asked again",
)

published_text = Table(
    "published_text",
    metadata,
    Column("key", Text, primary_key=True, comment="the key of the text"),
    Column("model", Text, nullable=False),
    Column("version", Integer, comment="version that wrote it, where that is ours"),
    Column("written_by", Text, nullable=False, comment="the model's name at the API"),
    Column("topic", JSONB, nullable=False),
    Column("text", Text, nullable=False),
    Column("scores", JSONB, nullable=False),
    Column("approved_by", Text, comment="the person who approved it; null: the gate did"),
    Column("at", Timestamp, nullable=False, server_default=func.now()),
    Index("ix_published_text_at", "model", "at"),
    comment="texts that generate_texts published",
)

batch_run = Table(
    "batch_run",
    metadata,
    Column("model", Text, nullable=False),
    Column("number", Integer, nullable=False, comment="1, 2, ... of the model"),
    Column(
        "key", Text, nullable=False, comment="why there is this run and not another: a version, or a run of Airflow"
    ),
    Column("opened_by", Text, nullable=False, comment="the run of Airflow that opened it"),
    Column("why", Text, nullable=False),
    Column("section", JSONB, nullable=False, comment="the YAML's section as it was: the run keeps it"),
    Column("version", Integer, comment="champion when it was opened; null: the answers are not of a version of ours"),
    Column("asked_model", Text, nullable=False, comment="the model's name at the API"),
    Column("rows", Integer, nullable=False),
    Column("shards", Integer, nullable=False),
    Column("output", Text, nullable=False, comment="folder of its files"),
    Column("figures", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Column("opened_at", Timestamp, nullable=False, server_default=func.now()),
    Column("finished_at", Timestamp, comment="when its manifest stood"),
    PrimaryKeyConstraint("model", "number"),
    UniqueConstraint("model", "key"),
    comment="runs of batch_inference",
)

batch_shard = Table(
    "batch_shard",
    metadata,
    Column("model", Text, nullable=False),
    Column("run", Integer, nullable=False),
    Column("number", Integer, nullable=False, comment="0, 1, ... of the run"),
    Column("input_sha256", Text, nullable=False),
    Column("output_sha256", Text, comment="null: it is not answered yet"),
    Column("figures", JSONB, nullable=False, server_default=text("'{}'::jsonb"), comment="rows, tokens, times, faults"),
    Column("opened_at", Timestamp, nullable=False, server_default=func.now()),
    Column("done_at", Timestamp),
    PrimaryKeyConstraint("model", "run", "number"),
    comment="shards of a run of batch_inference: what is done is never asked again",
)

pairs_take = Table(
    "pairs_take",
    metadata,
    Column("pairs_set", Text, nullable=False, comment="name of its file in models/pairs"),
    Column("number", Integer, nullable=False, comment="1, 2, ... of the set"),
    Column("pairs", Integer, nullable=False),
    Column("batches", Integer, nullable=False),
    Column("manifest", Text, nullable=False, comment="URL of the list of its files; the name holds its hash"),
    Column("manifest_sha256", Text, nullable=False),
    Column("opened_at", Timestamp, nullable=False, server_default=func.now()),
    Column("finished_at", Timestamp, comment="when its shards, index and report stood"),
    Column("kept", Integer),
    Column("index", Text, comment="URL of the list of its pairs: shard, place, hashes; the name holds its hash"),
    Column("index_sha256", Text),
    Column("announced_at", Timestamp, comment="when its event was out, or was not to be"),
    PrimaryKeyConstraint("pairs_set", "number"),
    comment="image-text pairs that came in together and are prepared together",
)

pairs_key = Table(
    "pairs_key",
    metadata,
    Column("pairs_set", Text, nullable=False),
    Column("key", Text, nullable=False, comment="path in the source"),
    Column("version", Text, nullable=False, comment="of its files, as the source tells: ETag, or size and time"),
    Column("take", Integer, nullable=False),
    PrimaryKeyConstraint("pairs_set", "key", "version"),
    comment="which files of which version were taken: nothing is prepared twice",
)

prompt_vector = Table(
    "prompt_vector",
    metadata,
    Column("model", Text, nullable=False),
    Column("window_end", Timestamp, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("at", Timestamp, nullable=False, comment="when the request was answered; with it the log is read"),
    Column("space", Text, nullable=False, comment="what made the vector; only those of one space are compared"),
    Column("vector", ARRAY(REAL), nullable=False, comment="of the redacted prompt, of length 1; no text stands here"),
    PrimaryKeyConstraint("model", "window_end", "request_id"),
    Index("ix_prompt_vector_at", "at"),
    comment="where some prompts of each window lie; the texts stay in the log",
)

alert_outbox = Table(
    "alert_outbox",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("key", Text, nullable=False, unique=True, comment="what the message is about; one message per key"),
    Column("model", Text, nullable=False),
    Column("incident_id", BigInteger),
    Column("severity", Text, nullable=False),
    Column("text", Text, nullable=False, comment="plain text for notifications and for `driftloop status`"),
    Column("blocks", JSONB, nullable=False),
    Column("created_at", Timestamp, nullable=False, server_default=func.now()),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("next_attempt_at", Timestamp, nullable=False, server_default=func.now()),
    Column("last_error", Text),
    Column("sent_at", Timestamp),
    Index("ix_alert_outbox_waiting", "next_attempt_at", postgresql_where=text("sent_at IS NULL")),
    comment="messages to people; written with the work, delivered apart from it",
)

heartbeat = Table(
    "heartbeat",
    metadata,
    Column("component", Text, primary_key=True, comment="e.g. serving:docs-writer, watch_drift"),
    Column("at", Timestamp, nullable=False, server_default=func.now()),
    Column("details", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    comment="who is alive, and what it says of itself",
)
