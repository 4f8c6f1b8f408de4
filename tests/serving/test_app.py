"""The HTTP side against a real server, with OpenAI's own client and with bare requests."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import select

from datasets_defs.store import tables


def client(running):
    return openai.OpenAI(base_url=f"{running.url}/v1", api_key="unused", max_retries=0)


def post(running, path="/v1/completions", **body):
    return httpx.post(running.url + path, json=body, timeout=20)


def rows(engine):
    with engine.connect() as on:
        return [row._mapping for row in on.execute(select(tables.inference))]


def samples(running):
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(httpx.get(f"{running.url}/metrics", timeout=20).text)
        for sample in family.samples
    }


def test_openai_client(running, engine, wait_until):
    """OpenAI's client gets a completion, and its request is in the log with losses, user, session and attributes."""
    answer = client(running).completions.create(
        model="writer",
        prompt="Grüße",
        max_tokens=6,
        temperature=0,
        seed=7,
        stop=["\n", "END"],
        user="ann",
        extra_body={"session_id": "s1", "metadata": {"team": "docs", "beta": True, "score": 0.5}},
    )

    assert answer.choices[0].text == "v1:Grü"
    assert answer.choices[0].finish_reason == "length"
    assert answer.object == "text_completion"
    assert answer.id.startswith("cmpl-")
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (5, 6, 11)
    assert answer.system_fingerprint == "writer-v1"
    seen = running.shelf.versions[1].seen[0]
    assert seen == {"prompt": "Grüße", "temperature": 0.0, "top_p": 1.0, "seed": 7, "stop": ["\n", "END"]}
    wait_until(lambda: rows(engine))
    (row,) = rows(engine)
    assert (row["request_id"], row["prompt"], row["completion"]) == (answer.id, "Grüße", "v1:Grü")
    assert (row["prompt_bits_per_byte"], row["completion_bits_per_byte"], row["model_version"]) == (2.0, 1.0, 1)
    assert (row["user_id"], row["session_id"]) == ("ann", "s1")
    assert row["attributes"] == {"team": "docs", "beta": True, "score": 0.5}
    assert row["latency_seconds"] >= 0


def test_null_is_the_default(running):
    """Parameters that OpenAI's client was given as None count as left out."""
    names = ("max_tokens", "temperature", "top_p", "n", "stop", "seed", "stream", "logprobs")
    answer = client(running).completions.create(model="writer", prompt="hello " * 5, **dict.fromkeys(names))
    assert answer.usage.completion_tokens == 16
    assert running.shelf.versions[1].seen[0]["temperature"] == 1.0


def test_models(running):
    """The models are listed and found by name as OpenAI lists them."""
    assert [model.id for model in client(running).models.list()] == ["writer"]
    assert client(running).models.retrieve("writer").owned_by == "driftloop"
    with pytest.raises(openai.NotFoundError):
        client(running).models.retrieve("poet")


def test_unknown_model(running):
    """An unknown model is a 404 in OpenAI's form that names what is served."""
    with pytest.raises(openai.NotFoundError) as caught:
        client(running).completions.create(model="poet", prompt="x")

    assert caught.value.code == "model_not_found"
    assert caught.value.param == "model"
    assert "served: writer" in caught.value.message


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": "\ud800"}, "prompt"),
        ({"stream": True}, "stream"),
        ({"n": 2}, "n"),
        ({"echo": True}, "echo"),
        ({"logprobs": 1}, "logprobs"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 10_000}, "max_tokens"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"max_tokens": 99}, "prompt"),
        ({"temperature": 3}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"presence_penalty": 1.5}, "presence_penalty"),
        ({"stop": list("abcde")}, None),
        ({"metadata": {"nested": {"a": 1}}}, "metadata"),
        ({"metadata": {"<script>": "x"}}, "metadata"),
        ({"colour": "red"}, "colour"),
        ({"colour": None}, "colour"),
        ({"\ud800": 1}, None),
        ({"prompt": None}, "prompt"),
    ],
    ids=lambda value: str(value)[:40].encode("ascii", "replace").decode() if isinstance(value, dict) else "",
)
def test_refused(running, changes, param):
    """What is not served is refused with 400 and the parameter's name."""
    import json

    body = json.dumps({"model": "writer", "prompt": "hello", **changes})
    headers = {"content-type": "application/json"}
    answer = httpx.post(f"{running.url}/v1/completions", content=body, headers=headers)

    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert error["message"]
    assert samples(running)["driftloop_serving_requests_total", "rejected", "writer"] == 1


def test_not_json(running):
    """A body that is not JSON, and a path that is not served, are errors in OpenAI's form."""
    answer = httpx.post(f"{running.url}/v1/completions", content="{", headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["message"]) == (400, "The body is not valid JSON.")
    assert httpx.get(f"{running.url}/v2/x").json()["error"]["message"] == "GET /v2/x: Not Found"


def test_bug_in_model(running):
    """A model that fails unexpectedly is a 500 in OpenAI's form, counted, and the next request is answered."""
    answer = post(running, model="writer", prompt="explode")

    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal_error"
    assert samples(running)["driftloop_serving_requests_total", "error", "writer"] == 1
    assert post(running, model="writer", prompt="again").status_code == 200


def test_queue_full(running, wait_until):
    """Beyond the queue's limit requests are refused with 429 and Retry-After; those queued are answered."""
    parrot, served = running.shelf.versions[1], running.service.models["writer"]
    served._limit, parrot.held = 2, True
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(post, running, model="writer", prompt="x") for _ in range(2)]
        wait_until(lambda: served.queue_length == 2)

        refused = post(running, model="writer", prompt="x")

        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "1"
        assert refused.json()["error"]["code"] == "rate_limit_exceeded"
        parrot.gate.set()
        assert [request.result().status_code for request in waiting] == [200, 200]
    wait_until(lambda: served.queue_length == 0)


def test_metrics(running, wait_until):
    """Bits, bytes and tokens add up; every series exists from the start; OpenMetrics is spoken when asked for."""
    before = samples(running)
    assert before["driftloop_serving_requests_total", "error", "writer"] == 0
    assert before["driftloop_serving_log_dropped_total", "writer"] == 0
    assert before["driftloop_serving_request_seconds_count", "writer"] == 0

    for prompt in ("four", "sixsix"):
        assert post(running, model="writer", prompt=prompt, max_tokens=5).status_code == 200

    wait_until(lambda: samples(running)["driftloop_serving_log_rows_total", "writer"] == 2)
    after = samples(running)
    assert after["driftloop_serving_requests_total", "ok", "writer"] == 2
    assert after["driftloop_serving_prompt_bits_total", "writer"] == 20
    assert after["driftloop_serving_prompt_bytes_total", "writer"] == 10
    assert after["driftloop_serving_completion_bits_total", "writer"] == 10
    assert after["driftloop_serving_prompt_tokens_total", "writer"] == 10
    assert after["driftloop_serving_request_seconds_count", "writer"] == 2
    assert after["driftloop_serving_loaded_version", "writer"] == 1
    text = httpx.get(f"{running.url}/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"}).text
    assert text.endswith("# EOF\n")


def test_broken_version_leaves_counters(running, engine, wait_until):
    """A version whose loss is no number is logged as such and poisons no counter: the next one's rate can be read."""
    assert post(running, model="writer", prompt="nan").status_code == 200
    assert post(running, model="writer", prompt="four").status_code == 200
    assert samples(running)["driftloop_serving_prompt_bits_total", "writer"] == 8
    assert samples(running)["driftloop_serving_prompt_bytes_total", "writer"] == 4
    wait_until(lambda: len(rows(engine)) == 2)


def test_feedback(running, engine):
    """A reference and, later, a score on the same request are kept together."""
    word = {"model": "writer", "request_id": "cmpl-1"}
    assert post(running, "/v1/feedback", **word, reference="what a person wrote").json()["stored"] is True
    assert post(running, "/v1/feedback", **word, score=0.75).status_code == 200

    with engine.connect() as on:
        (row,) = on.execute(select(tables.feedback)).all()
    assert (row.reference, row.score) == ("what a person wrote", 0.75)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"model": "writer", "request_id": "r"}, 400),
        ({"model": "writer", "request_id": "r", "score": 2}, 400),
        ({"model": "writer", "request_id": "", "score": 1}, 400),
        ({"model": "poet", "request_id": "r", "score": 1}, 404),
    ],
    ids=["says nothing", "score beyond 1", "no id", "unknown model"],
)
def test_feedback_refused(running, body, status):
    """Feedback that says nothing, or of nothing that is served, is refused."""
    answer = post(running, "/v1/feedback", **body)
    assert (answer.status_code, list(answer.json())) == (status, ["error"])
