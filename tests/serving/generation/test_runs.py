"""Runs of `generate_texts`: each prompt answered once, each text routed and published once, whoever is killed when."""

import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, text

from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.core.faults import KILL_AT
from datasets_defs.core.settings import ROOT
from datasets_defs.store.generated_texts import texts_in
from datasets_defs.store.locks import held
from serving import generate_texts
from tests.monitors.webhook_server import webhook_server
from tests.serving.generation.conftest import Writer
from tests.serving.generation.simulated_api import SimulatedRequest, completion, error, simulated_api
from training.servers.webhook import signature


def fine(asked: SimulatedRequest):
    return completion(f"A fine text. It speaks about one thing: {asked.prompt}")


def in_process(writer: Writer, what: str, argument: str, *, kill_at: str = "") -> subprocess.CompletedProcess[str]:
    url = writer.db.url.render_as_string(hide_password=False)
    command = [sys.executable, "-m", "tests.serving.generation.killed", what, url, argument]
    environment = {**os.environ, KILL_AT: kill_at}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=250, check=False
    )  # fmt: skip


def test_a_run_asks_in_batches_and_publishes_each_text(writer: Writer):
    """25 prompts in batches of 10 are three tasks; a second run finds all of them answered and asks nothing."""
    with simulated_api(fine) as api:
        writer.topics(25)
        writer.spec(api.url)
        batches = writer.plan()
        assert [batch["batch"] for batch in batches] == [0, 1, 2]
        assert writer.plan() == batches  # planned again, it is the same
        writer.ask(batches)
        assert writer.publish() == "writer: 25 texts are published"
        assert writer.publish() == "writer: no text is accepted that is not published"
        assert writer.plan("generate_texts:2") == []
    assert len(api.requests) == 25
    assert set(api.times.values()) == {1}
    assert len(writer.rows("key", "published_text", "key")) == 25


def test_a_batch_killed_in_its_middle_asks_nothing_twice(writer: Writer):
    """Kill -9 after answers were kept; asked again, the batch asks what has none. What was on its way has its key."""
    with simulated_api(fine) as api:
        writer.topics(30)
        writer.spec(api.url, pace={"batch_prompts": 30, "concurrency": 4})
        (batch,) = writer.plan()
        died = in_process(writer, "ask", json.dumps(batch), kill_at="generate_texts.kept")
        assert died.returncode == -signal.SIGKILL
        kept = {key for key, state in writer.rows("key, state") if state != "planned"}
        assert 0 < len(kept) < 30
        again = in_process(writer, "ask", json.dumps(batch))
        assert again.returncode == 0, again.stderr
    assert writer.states() == {"accepted": 30}
    twice = {key for key, times in api.times.items() if times > 1}
    assert not twice & kept
    assert len(twice) <= 4 + 4  # what was on its way, and what had come and was not kept, at the kill
    assert set(api.times) == {key for (key,) in writer.rows("key")}


def test_a_publication_killed_in_its_middle_publishes_nothing_twice(writer: Writer, tmp_path):
    """Kill -9 after the first of three places; published again, each place has each text once."""
    folder = tmp_path / "published"
    with simulated_api(fine) as api, webhook_server() as webhook:
        writer.topics(5)
        places = [
            {"kind": "table"},
            {"kind": "files", "url": f"file://{folder}"},
            {"kind": "webhook", "url": webhook.url, "key_env": "CMS_SECRET"},
        ]
        writer.spec(api.url, publish=places)
        os.environ["CMS_SECRET"] = "secret"
        writer.ask(writer.plan())
        died = in_process(writer, "publish", "generate_texts:1", kill_at="generate_texts.published")
        assert died.returncode == -signal.SIGKILL
        assert writer.states() == {"accepted": 5}
        done = in_process(writer, "publish", "generate_texts:1")
        assert done.returncode == 0, done.stderr
        assert "5 texts are published" in done.stdout
        del os.environ["CMS_SECRET"]
    keys = {key for (key,) in writer.rows("key")}
    assert {key for (key,) in writer.rows("key", "published_text", "key")} == keys
    assert {path.stem for path in folder.iterdir()} == keys
    assert sorted(webhook.keys) == sorted(keys)
    assert {body["text"] for body in webhook.bodies} == {row for (row,) in writer.rows("completion")}


def test_a_webhook_can_check_who_sent_it(writer: Writer, monkeypatch: pytest.MonkeyPatch):
    """The signature is the HMAC of time and body by the secret, which stands in no file."""
    from datasets_defs.store.published_texts import PublishedText
    from serving.generation.publishing import TextWebhook

    one = PublishedText(
        key="k", model="m", version=1, written_by="w", topic={"topic": "t"}, text="x", scores={}, approved_by=None
    )
    with simulated_api(lambda _: completion("ok")) as api:
        TextWebhook(f"{api.url}/cms", "secret", seconds=10).publish([one])
    (asked,) = api.requests
    body = json.dumps(asked.body, ensure_ascii=False, sort_keys=True).encode()
    assert asked.headers["x-driftloop-signature"] == signature("secret", asked.headers["x-driftloop-time"], body)
    assert asked.body["text"] == "x"


def test_a_limit_of_tokens_stops_before_it_is_passed(writer: Writer):
    """What is on its way counts at its most; what was not asked is asked in the next run."""
    with simulated_api(lambda asked: completion(f"Words: {asked.prompt}", tokens=(10, 20))) as api:
        writer.topics(20)
        writer.spec(api.url, max_tokens=20, pace={"most_tokens": 300, "concurrency": 2, "batch_prompts": 20})
        said = writer.run()
        assert "stopped early: the run's limit of 300 tokens" in said
        taken = writer.rows("tokens", "text_run", "id")[0][0]
        assert 200 <= taken <= 300
        assert writer.states() == {"planned": 20 - taken // 30, "published": taken // 30}


def test_a_limit_of_cost_stops(writer: Writer):
    """Prices are per million tokens."""
    with simulated_api(lambda asked: completion(f"Words: {asked.prompt}", tokens=(1000, 1000))) as api:
        writer.topics(20)
        prices = {"url": api.url, "prompt_price": 1, "completion_price": 3}
        writer.spec(api.url, api=prices, pace={"most_cost": 0.0201, "concurrency": 1, "batch_prompts": 20})
        writer.run()
        cost = writer.rows("cost", "text_run", "id")[0][0]
    assert cost == pytest.approx(0.02)
    assert writer.states() == {"planned": 15, "published": 5}


def test_what_a_dead_run_left_is_taken_by_the_next(writer: Writer, owner: Engine):
    """A run at work keeps its prompts; one that stands still for an hour loses them."""
    with simulated_api(fine) as api:
        writer.topics(3)
        writer.spec(api.url)
        assert writer.plan("generate_texts:1") != []
        assert writer.plan("generate_texts:2") == []
        with owner.begin() as on:
            on.execute(text("UPDATE text_run SET active_at = active_at - interval '2 hours'"))
        taken = writer.plan("generate_texts:3")
        writer.ask(taken)
        assert writer.rows("DISTINCT run_id, state", order="run_id") == [("generate_texts:3", "accepted")]


def test_a_batch_is_asked_by_one_process(writer: Writer):
    """A second process that wants the same batch comes again later."""
    writer.topics(1)
    writer.spec("http://127.0.0.1:9")
    (batch,) = writer.plan()
    with held(writer.db, "generate_texts", "generate_texts:1|0"), pytest.raises(TransientError, match="another"):
        writer.ask([batch])


def test_the_gate_routes_with_reasons(writer: Writer):
    """A fine text is published, a doubtful one waits for a person, and a bad one is rejected: each says why."""
    texts = {
        "topic 0.": "Fine words about it.", "topic 1.": "la la la la " * 9, "topic 2.": "I'm sorry, I cannot.",
        "topic 3.": "Buy at ACME now!", "topic 4.": "Cut off in the",
    }  # fmt: skip

    def behave(asked: SimulatedRequest):
        said = next(said for topic, said in texts.items() if topic in asked.prompt)
        return completion(said, finish="length" if said.startswith("Cut") else "stop")

    with simulated_api(behave) as api:
        writer.topics(5)
        writer.spec(api.url, quality={"blocked_phrases": ["acme"]})
        report = writer.run()
    assert [state for (state,) in writer.rows("state")] == ["published", "rejected", "rejected", "rejected", "review"]
    reasons = [" ".join(reasons) for (reasons,) in writer.rows("reasons")]
    for reason, words in zip(reasons, ("every check", "repeats itself", "refusal", "'acme'", "cut off"), strict=True):
        assert words in reason
    url = report.rpartition("report: ")[2]
    page = (writer.home / url.removeprefix(f"file://{writer.home}/")).read_text()
    for words in ("## rejected: 3", "## review: 1", "## published: 1", "Fine words"):
        assert words in page


def test_a_person_decides_what_is_doubtful(writer: Writer):
    """Ticked texts are published with who approved them, the others rejected; a second answer changes nothing."""
    with simulated_api(fine) as api:
        writer.topics(3)
        writer.spec(api.url, quality={"always_review": True})
        writer.run()
        assert writer.states() == {"review": 3}
        (form,) = generate_texts.questions("generate_texts:1", db=writer.db)
        given = {"chosen_options": [form["options"][3]], "responded_by_user": {"id": "7", "name": "anna"}}
        decided = generate_texts.record("generate_texts:1", [form], [given], db=writer.db, outside=writer.world)
        assert decided.reason == "writer: 1 accepted and 2 rejected by people, 1 published"
        later = {"chosen_options": ["Publish all"], "responded_by_user": {"id": "8", "name": "bert"}}
        again = generate_texts.record("generate_texts:1", [form], [later], db=writer.db, outside=writer.world)
        assert not again.is_done
    assert writer.rows("approved_by", "published_text", "key") == [("airflow:anna",)]
    assert sorted(writer.states().items()) == [("published", 1), ("rejected", 2)]


def test_nobodys_answer_leaves_texts_for_the_next_form(writer: Writer):
    """`Decide later`, which is the answer of silence, decides nothing."""
    with simulated_api(fine) as api:
        writer.topics(1)
        writer.spec(api.url, quality={"always_review": True})
        writer.run()
        (form,) = generate_texts.questions("generate_texts:1", db=writer.db)
        given = {"chosen_options": ["Decide later"], "responded_by_user": None}
        generate_texts.record("generate_texts:1", [form], [given], db=writer.db, outside=writer.world)
    assert writer.states() == {"review": 1}
    assert len(generate_texts.questions("generate_texts:1", db=writer.db)) == 1


def test_a_judge_scores_what_the_checks_let_pass(writer: Writer):
    """A praised text is published, a poor one rejected, a middling one reviewed, and so is one without a score."""
    said = {"0.": '{"score": 0.9, "reason": "good"}', "1.": '{"score": 0.1}', "2.": "{'score': 'high'}"}

    def behave(asked: SimulatedRequest):
        if asked.body["model"] != "judge":
            return fine(asked)
        if "topic 3." in asked.prompt:
            return error(500)
        return completion(next(words for topic, words in said.items() if f"topic {topic}" in asked.prompt))

    with simulated_api(behave) as api:
        writer.topics(4)
        writer.spec(api.url, quality={"judge": {"url": api.url, "model": "judge"}})
        writer.run()
    assert [state for (state,) in writer.rows("state")] == ["published", "rejected", "review", "review"]
    assert texts_in(writer.db, "writer", "published")[0].scores["judge"] == 0.9


@pytest.mark.slow
def test_a_judge_away_leaves_the_answer_kept(writer: Writer):
    """Killed between answer and judge, a text is not asked for again: only its judge is."""
    with simulated_api(fine) as api:
        writer.topics(2)
        writer.spec(api.url, quality={"judge": {"url": api.url, "model": "judge"}})
        (batch,) = writer.plan()
        died = in_process(writer, "ask", json.dumps(batch), kill_at="generate_texts.kept")
        assert died.returncode == -signal.SIGKILL
        kept = {key for key, state in writer.rows("key, state") if state == "answered"}
        writer.ask([batch])
        assert kept
        assert all(api.times[key] == 1 for key in kept)
        assert writer.states() == {"review": 2}  # the judge answers with no score


def test_topics_come_from_sql_and_from_an_asset(writer: Writer, tmp_path):
    """A query's rows and a file that an Asset's event names are topics; the query cannot write."""
    with simulated_api(fine) as api:
        writer.world.databases["mine"] = writer.db
        query = "SELECT 'gardens' AS topic, 7 AS size UNION SELECT 'rivers', 8"
        writer.spec(api.url, topics={"sql": query, "connection": "mine"}, template="{{ topic }} of {{ size }} m:")
        writer.run("generate_texts:1")
        assert sorted(asked.prompt for asked in api.requests) == ["gardens of 7 m:", "rivers of 8 m:"]
        writer.spec(api.url, topics={"sql": "DELETE FROM champion RETURNING model AS topic"})
        with pytest.raises(ContractError, match="can only read"):
            writer.plan("generate_texts:2")
        (tmp_path / "from_asset.csv").write_text("topic;tone\nseas;calm\n")
        writer.world.urls["topics_ready"] = str(tmp_path / "from_asset.csv")
        writer.spec(api.url, topics={"asset": "topics_ready"}, template="{{ topic }}, {{ tone }}")
        writer.run("generate_texts:3")
        assert api.requests[-1].prompt == "seas, calm"


def test_topics_that_give_no_prompt_are_counted(writer: Writer):
    """A broken row, a missing column and a repeated topic are figures of the run, and the others are asked."""
    lines = ['{"topic": "a"}', '{"topic": "a"}', '{"title": "b"}', "{broken"]
    (writer.home / "topics.jsonl").write_text("\n".join(lines))
    with simulated_api(fine) as api:
        writer.spec(api.url)
        writer.run()
    figures = writer.rows("figures", "text_run", "id")[0][0]
    assert (figures["topics"], figures["repeated"], figures["prompts"]) == (4, 1, 1)
    assert sum(figures["unusable"].values()) == 2
    assert len(api.requests) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"template": "{{ topic"}, "no Jinja template"),
        ({"topics": {"file": "/nowhere/topics.csv"}}, "no such file: /nowhere/topics.csv"),
        ({"publish": [{"kind": "webhook", "url": "http://127.0.0.1:9", "key_env": "NOT_SET"}]}, "NOT_SET is not set"),
    ],
)
def test_a_mistake_of_the_yaml_is_a_sentence(writer: Writer, change, words: str):
    """The template, the file, the secret: what is wrong and where."""
    with simulated_api(fine) as api:
        writer.topics(1)
        writer.spec(api.url, **change)
        with pytest.raises(ContractError, match=words):
            writer.run()


def test_a_daily_run_is_rung_once_until_it_begins(writer: Writer):
    """It is due after its hour, rung again after an hour in which nothing began, and not once it was planned."""
    now = datetime.now(UTC)
    writer.topics(1)
    writer.spec("http://127.0.0.1:9", daily_at=f"{now - timedelta(minutes=1):%H:%M}")
    (key,) = generate_texts.keys_due(db=writer.db, now=now)
    assert key.startswith("writer|texts|")
    assert generate_texts.keys_due(db=writer.db, now=now + timedelta(minutes=10)) == []
    assert len(generate_texts.keys_due(db=writer.db, now=now + timedelta(minutes=90))) == 1
    writer.plan()
    assert generate_texts.keys_due(db=writer.db, now=now + timedelta(hours=4)) == []
    writer.spec("http://127.0.0.1:9", daily_at=None)
    assert generate_texts.keys_due(db=writer.db, now=now + timedelta(days=3)) == []


def test_a_model_without_the_section_writes_nothing(writer: Writer):
    """A change of its champion is no reason to write: the run says so."""
    writer.spec("http://127.0.0.1:9")
    path = writer.home / "models" / "writer.yaml"
    path.write_text("name: writer\nbase_model: {layers: 1}\ntraining_text: builtin:python-docs\n")
    said = writer.plan(key="writer|3|1")
    assert said == "writer has no section `generate` in its YAML: it writes no texts for publication"
