"""A stack with three models, whose parts are killed and stopped while users turn to other text; then the reckoning."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import httpx
import psycopg

from ops.demo.texts import passages
from ops.stack import health
from ops.stack.layout import Layout
from ops.stack.postgres import Cluster
from tests.alerts.slack_server import TOKEN, SlackServer
from tests.chaos.attack import Attacker
from tests.chaos.blows import Blows
from tests.chaos.person import Person
from tests.chaos.plan import DOMAINS, MODELS, Action, Kind, plan
from tests.chaos.users import Failure, Outages, Users
from tests.chaos.watching import Drops, Served, lost
from tests.stack import Stack
from tests.waiting import wait_for

PROFILE = {
    "DRIFTLOOP_SENSOR_INTERVAL_SECONDS": "60",
    "DRIFTLOOP_SENSOR_GRACE_SECONDS": "3",
    "DRIFTLOOP_RECONCILE_INTERVAL_SECONDS": "30",
    "DRIFTLOOP_ALERT_INTERVAL_SECONDS": "30",
    "DRIFTLOOP_LEASE_SECONDS": "45",
    "DRIFTLOOP_SERVING_CONFIRM_SECONDS": "120",
}
REST_SECONDS = 900
"""How long the loop may take, left alone, until every incident has ended or waits for a person and all are told."""
STARTS = 3
REQUESTS_PER_SECOND = 2.0
UNWRITTEN_SECONDS = 30.0
"""Rows that serving answered so long before its death may not have been written, with the database there."""
BLOWS = (Kind.READ, Kind.LOCK, Kind.SILENCE, Kind.SLOW, Kind.FULL)
APPROVE_EVERY = 20.0
SPEC = """
name: {name}
base_model: {{layers: 2, width: 64, heads: 2, vocabulary: 2048, context: 512, train_seconds: 20}}
training_text: builtin:python-docs
serving: {{kind: driftloop}}
drift: {{season: none, min_rows: 40, burn_in_windows: 0, reports: on_warn, confirm: {{bad: 2, of: 3}}}}
quality: {quality}
promotion: {promotion}
approval_windows: 4
gpu: dcgm
retrain: {{min_documents: 160, max_documents: 240, holdout_share: 0.4, replay_share: 0.45, blend: 0.95, epochs: 6,
  learning_rate: 3.0e-3, batch_tokens: 1024, max_seconds: 60, checkpoint_seconds: 5, cool_down_windows: 1,
  back_off_windows: 1, budget: {{attempts: 50}}}}
probation_windows: 2
trust: {{anonymous: true}}
data: {{split: time}}
blind_after_windows: 5
"""


@dataclass
class Run:
    """One chaos run on a stack of its own."""

    stack: Stack
    say: Callable[[str], None]
    slack: SlackServer = field(default_factory=SlackServer)
    serving: Outages = field(default_factory=Outages)
    database: Outages = field(default_factory=Outages)
    users: dict[str, Users] = field(default_factory=dict)
    drifts: Counter[str] = field(default_factory=Counter)
    served: Served = field(default_factory=Served)
    drops: Drops = field(default_factory=Drops)
    deaths: list[tuple[float, float]] = field(default_factory=list)
    """From when on rows were lost with serving, and when it died; `time.monotonic()`."""
    told: int = 0
    approved: float = 0.0

    def __post_init__(self) -> None:
        """Make those who strike and act."""
        self.attacker, self.person = Attacker(self.stack), Person(self.stack)
        self.blows = Blows(self.stack, self.attacker.pid)

    def go(self, minutes: float, seed: int) -> list[str]:
        """Do what the seed says for so many minutes, wait for rest, and give a sentence for whatever broke."""
        actions = plan(minutes, seed)
        with self._up():
            try:
                self._attacks(actions, 60 * minutes)
            finally:
                self.attacker.release()
                self.blows.release()
            self.say("the attacks are over; waiting for the loop to come to rest")
            broken = self._rest()
            return [*broken, *self._reckon(self.attacker.crashes)]

    @contextmanager
    def _up(self) -> Iterator[None]:
        for name in MODELS:
            # stalls and slow answers are no reason to call a person here
            quality = "[driftloop, {remove: latency_p95_seconds}]" if name == MODELS[0] else "[]"
            promotion = "approve" if name == MODELS[-1] else "auto"
            spec = SPEC.format(name=name, quality=quality, promotion=promotion)
            (self.stack.home / "models" / f"{name}.yaml").write_text(spec)
        self.stack.environment |= PROFILE
        with ExitStack() as ending:
            self.say(self.blows.prepare())
            ending.callback(self.blows.end)
            ending.callback(self.person.leave)
            server = self.slack.start()
            ending.callback(server.shutdown)
            connection = {"conn_type": "slack", "password": TOKEN, "extra": {"base_url": self.slack.url}}
            self.stack.environment["AIRFLOW_CONN_SLACK_DEFAULT"] = json.dumps(connection)
            self.say("starting the stack, and making three first champions")
            self._start()
            url = self.stack.setting("DRIFTLOOP_SERVING_URL")
            assert url is not None
            self._until(lambda: self._serves(url), 300)
            for number, name in enumerate(MODELS):
                users = Users(url=url, model=name, per_second=REQUESTS_PER_SECOND, seed=number)
                users.switch_to(passages(DOMAINS[0]))
                users.start()
                ending.callback(users.stop)
                self.users[name] = users
            yield

    def _start(self) -> None:
        """Bring the stack up; on a machine that is busy with other things it may need more than one try."""
        for _ in range(STARTS):
            started = self.stack.command("up", timeout=1200)
            if started.returncode == 0:
                return
            self.say(f"`driftloop up`: {(started.stdout + started.stderr).strip()[-500:]}")
        raise RuntimeError(f"the stack did not start in {STARTS} tries")

    def _attacks(self, actions: list[Action], seconds: float) -> None:
        texts = {domain: passages(domain) for domain in DOMAINS}
        began = time.monotonic()
        coming = iter([*actions, None])
        action = next(coming)
        while (now := time.monotonic() - began) < seconds:
            while action is not None and action.at <= now:
                self._do(action, texts)
                action = next(coming)
            self._tick()

    def _do(self, action: Action, texts: dict) -> None:
        if action.kind is Kind.DRIFT:
            self.users[action.victim].switch_to(texts[action.domain])
            self.drifts[action.victim] += 1
            self.say(str(action))
            self._answer_for(action.victim)
            return
        if action.kind is Kind.DEED:
            self.say(self.person.act(action.victim))
            return
        if action.kind in BLOWS:
            if action.kind is Kind.LOCK or action.victim == "postgres":
                self.database.begin()
            self.say(self.blows.strike(action))
            return
        for victim, outages in (("serving", self.serving), ("postgres", self.database)):
            if action.victim == victim:
                outages.begin()
        if action.victim == "serving" and action.kind is Kind.KILL:
            self._serving_dies()
        self.served.excuse(time.monotonic())
        self.say(self.attacker.attack(action))

    def _serving_dies(self) -> None:
        """Note from when on rows may not have been written: since the database was away, or just before."""
        now = time.monotonic()
        spans = [*self.database.ended, *([(self.database.since, now)] if self.database.since is not None else [])]
        self.deaths.append((unwritten_since(now, spans), now + 1))

    def _answer_for(self, model: str) -> None:
        """Be the person whom an escalated incident waits for, so that the next drift is an incident of its own."""
        for (number,) in self.stack.ask(
            f"SELECT id FROM incident WHERE model = '{model}' AND state IN ('escalated', 'quarantined')"
        ):
            done = self.stack.command("incident", "resolve", str(number), "--reason", "a person looked")
            self.say(f"a person resolves incident {number}: {(done.stdout + done.stderr).strip()[-200:]}")

    def _tick(self) -> None:
        for said in [*self.attacker.look(), *self.blows.look(), *self.person.look()]:
            self.say(said)
        url = self.stack.setting("DRIFTLOOP_SERVING_URL")
        if self.serving.since is not None and url and self._serves(url):
            self.serving.end()
        if self.database.since is not None and not self.blows.silences("postgres") and self.stack.ask("SELECT 1"):
            self.database.end()
        self._watch(url)
        for number, model, kind, state, reason in self.stack.ask(
            f"SELECT id, model, kind, state, reason FROM incident_event WHERE id > {self.told} ORDER BY id"
        ):
            self.told = number
            if kind not in ("claimed", "blind", "sighted"):
                self.say(f"    {model} {state or kind}: {reason[:150]}")
        time.sleep(1)  # between two looks

    def _watch(self, url: str | None) -> None:
        """Look which version serves, and how many rows serving says it dropped."""
        now = time.monotonic()
        rows = self.stack.ask(
            "SELECT c.model, c.version, h.details ->> 'loaded_version' FROM champion c "
            "JOIN heartbeat h ON h.component = 'serving:' || c.model AND h.at > now() - interval '10 seconds'"
        )
        if self.blows.silences("mlflow") or len(rows) < len(MODELS):
            self.served.excuse(now)
        self.served.look(rows, now)
        try:
            self.drops.look(httpx.get(f"{url}/metrics", timeout=2, trust_env=False).text)
        except httpx.HTTPError:
            return

    def _approve(self) -> None:
        """Be the person whom a challenger waits for."""
        if time.monotonic() - self.approved < APPROVE_EVERY:
            return
        self.approved = time.monotonic()
        for (model,) in self.stack.ask("SELECT model FROM incident WHERE state = 'approving'"):
            self.say(self.person.act(f"approve {model}"))

    def _rest(self) -> list[str]:
        """Wait until sensors see again, nothing is under way, every message is delivered and every part is healthy.

        An incident that is watched is at rest: users stay with the other text, and the model is as good at it.
        """
        layout = Layout(self.stack.home)
        what = {
            "no window since the attacks is judged": (
                "SELECT model FROM champion c WHERE NOT EXISTS (SELECT 1 FROM verdict v WHERE v.model = c.model "
                "AND v.signal = 'drift' AND v.condition IN ('OK', 'WARN', 'BAD') "
                f"AND v.window_start >= '{datetime.now(UTC).isoformat()}')"
            ),
            "an incident is still at work": (
                "SELECT id FROM incident WHERE state NOT IN ('resolved', 'rolled_back', 'escalated', 'quarantined') "
                "AND NOT (state = 'open' AND action = 'watch')"
            ),
            "a message still waits": "SELECT id FROM alert_outbox WHERE sent_at IS NULL",
        }
        deadline = time.monotonic() + REST_SECONDS
        while True:
            self._tick()
            self._approve()
            ill = [each.name for each in health.check(layout).values() if not each.healthy]
            busy = [words for words, query in what.items() if self.stack.ask(query)]
            if not ill and not busy and self.stack.ask("SELECT 1"):
                return []
            if time.monotonic() > deadline:
                self.say(f"no rest within {REST_SECONDS} s: {busy}, unhealthy: {ill}")
                broken = [f"{name} is not healthy {REST_SECONDS} s after the last attack" for name in ill]
                unsent = self.stack.ask(
                    f"{what['a message still waits']} AND created_at < now() - interval '5 minutes'"
                )
                return [*broken, *(f"message {number} was not delivered" for (number,) in unsent)]

    def _reckon(self, crashes: int) -> list[str]:
        verified = self.stack.command("verify", "--json")
        try:
            found = json.loads(verified.stdout)
        except ValueError:
            return [f"`driftloop verify` said {verified.stdout[-1000:]}{verified.stderr[-1000:]}"]
        self.say(f"checked: {found['checked']}; in progress: {found['in_progress']}")
        states = self.stack.ask("SELECT model, state, count(*) FROM incident GROUP BY 1, 2 ORDER BY 1, 2")
        changes = self.stack.ask("SELECT model, kind, count(*) FROM promotion GROUP BY 1, 2 ORDER BY 1, 2")
        self.say(f"incidents: {states}; changes of champion: {changes}; crashes: {crashes}")
        return [
            *found["broken"],
            *(f"not known: {sentence}" for sentence in found["unknown"]),
            *(f"{name}: no drift was injected" for name in MODELS if not self.drifts[name]),
            *self._failed_requests(),
            *duplicates(self._outbox(), [message["blocks"] for message in self.slack.messages], crashes),
            *self.served.broken,
            *self._lost(),
            *self._rung_twice(),
            *self._not_served(),
        ]

    def _outbox(self) -> list[object]:
        return [row[0]["blocks"] for row in self.stack.ask("SELECT blocks FROM alert_outbox WHERE sent_at IS NOT NULL")]

    def _failed_requests(self) -> list[str]:
        """Blame the loop for answers that failed while serving was up, and feedback while PostgreSQL was, too."""
        failures = [failure for users in self.users.values() for failure in users.failures]
        blamed = [failure for failure in failures if not self._excused(failure)]
        answered = sum(users.counts.answered for users in self.users.values())
        self.say(f"requests: {answered} answered, {len(failures)} failed, {len(blamed)} of them with no part down")
        for minute, count in sorted(Counter(int((time.monotonic() - each.ended) // 60) for each in blamed).items()):
            self.say(f"    {count} of them {minute} minutes ago")
        return [f"{failure.path} failed with every part up: {failure.why}" for failure in blamed[:10]]

    def _excused(self, failure: Failure) -> bool:
        needs = [self.serving, self.database] if failure.path == "/v1/feedback" else [self.serving]
        return any(outages.excuse(failure) for outages in needs)

    def _lost(self) -> list[str]:
        logged = {request_id for (request_id,) in self.stack.ask("SELECT request_id FROM request_key")}
        answered = [each for users in self.users.values() for each in users.requests]
        self.say(f"rows: {len(answered)} requests, {len(logged)} in the log, {self.drops.total:.0f} counted as dropped")
        before = time.monotonic() - UNWRITTEN_SECONDS  # younger ones may be on their way
        return lost([each for each in answered if each.at < before], logged, self.deaths, self.drops.total)

    def _rung_twice(self) -> list[str]:
        """Read from Airflow's own database whether a key ever started the same DAG twice."""
        layout = Layout(self.stack.home)
        port = json.loads(layout.ports.read_text())["postgres"]
        cluster = Cluster(layout.home / "postgres", port, layout.load_credentials().postgres_password)
        with psycopg.connect(cluster.url("airflow").replace("+psycopg", "")) as on:
            rows = on.execute(
                "SELECT dag_id, partition_key, count(*) FROM dag_run WHERE partition_key IS NOT NULL "
                "GROUP BY 1, 2 HAVING count(*) > 1"
            ).fetchall()
        return [f"key {key} started {dag} {count} times" for dag, key, count in rows]

    def _not_served(self) -> list[str]:
        rows = self.stack.ask(
            "SELECT c.model, c.version, h.details ->> 'loaded_version' FROM champion c "
            "LEFT JOIN heartbeat h ON h.component = 'serving:' || c.model"
        )
        return [
            f"{model}: version {want} is champion, serving has {has}" for model, want, has in rows if str(want) != has
        ]

    def _until(self, happened: Callable[[], bool], seconds: float) -> None:
        wait_for(happened, "serving has a champion", seconds=seconds, every=1)

    @staticmethod
    def _serves(url: str) -> bool:
        try:
            return httpx.get(f"{url}/healthz", timeout=2, trust_env=False).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False


def unwritten_since(now: float, away: Iterable[tuple[float, float]]) -> float:
    """Give from when on rows may not be written, while the database was away in these spans; `time.monotonic()`.

    One that was back for a moment only is gone through: the log tries again every ten seconds.
    """
    began = now - UNWRITTEN_SECONDS
    for begin, end in sorted(away, key=lambda span: -span[1]):
        if end >= began:
            began = min(began, begin - UNWRITTEN_SECONDS)
    return began


def duplicates(written: list[object], delivered: list[object], crashes: int) -> list[str]:
    """Compare what was written with what Slack was told: nothing missing, no more twice than there were crashes."""
    wanted, got = (Counter(json.dumps(each, sort_keys=True) for each in all_) for all_ in (written, delivered))
    missing, more = wanted - got, got - wanted
    problems = [f"a message that counts as sent never came: {text[:200]}" for text in missing]
    if more.total() > crashes:
        problems.append(f"{more.total()} messages came twice in {crashes} crashes")
    return problems
