"""What goes through the gateway, both ways, and what of it the log keeps."""

import json
import math
import threading

import httpx
import openai
import pytest

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
HELLO = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "say it again"}]
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def post(running, path, body, **headers):
    content = body if isinstance(body, bytes) else json.dumps(body)
    sent = {"content-type": "application/json", **headers}
    return httpx.post(running.url + path, content=content, headers=sent, timeout=20)


def client(running):
    return openai.OpenAI(base_url=f"{running.url}/v1", api_key="unused", max_retries=0)


def test_a_body_arrives_as_it_was_written(running):
    """Unknown fields, odd spacing, large figures and a query reach the server byte by byte."""
    raw = b'{ "model":"writer", "prompt":"h\\u00e9 1", "new_field": {"a": [1.0, 12345678901234567890]}, "seed":7 }'
    answer = post(running, f"{COMPLETIONS}?debug=1", raw, **{"x-trace": "abc"})

    (seen,) = running.replicas[0].seen
    assert (seen["raw"], seen["query"], seen["headers"]["x-trace"]) == (raw, b"debug=1", "abc")
    assert seen["headers"]["x-request-id"] == answer.headers["x-request-id"]
    assert answer.json()["choices"][0]["text"] == "replica-0 says: hé 1"
    assert answer.headers["x-of-the-server"] == "replica-0"
    assert "x-driftloop-version" not in answer.headers  # nothing serves by the ledger's word


def test_a_servers_error_is_the_callers(running):
    """What the server refuses reaches the caller with its status and words, and is no row of the log."""
    running.replicas[0].refuse = 422
    answer = post(running, CHAT, {"model": "writer", "messages": HELLO})
    assert (answer.status_code, answer.json()["error"]["message"]) == (422, "told to refuse")
    running.replicas[0].refuse = 0
    assert post(running, CHAT, {"model": "writer", "messages": HELLO}).status_code == 200
    assert len(running.rows(1)) == 1


def test_a_conversation_is_logged(running):
    """The row holds the conversation as text and as it came, the answer, tokens, end, version, user and attributes."""
    running.promote(3, None)
    answer = client(running).chat.completions.with_raw_response.create(
        model="writer", messages=HELLO, user="ann", metadata={"team": "docs"}, extra_body={"session_id": "s1"}
    )
    assert answer.parse().choices[0].message.content == "replica-0 says: say it again"
    assert answer.headers["x-driftloop-version"] == "3"
    (row,) = running.rows(1)
    assert row["request_id"] == answer.headers["x-request-id"]
    assert row["prompt"] == "system: Be brief.\n\nuser: say it again\n\nassistant: "
    assert (row["messages"], row["completion"]) == (HELLO, "replica-0 says: say it again")
    assert (row["finish_reason"], row["model_version"], row["choices"], row["client"]) == ("stop", 3, None, None)
    assert (row["prompt_tokens"], row["completion_tokens"]) == (3, 3)
    assert (row["user_id"], row["session_id"], row["attributes"]) == ("ann", "s1", {"team": "docs"})
    assert row["latency_seconds"] > 0
    assert row["first_token_seconds"] is None


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
def test_a_stream_passes_as_it_comes(running, path):
    """The first text reaches the caller while the server still holds the rest back; the row has text and tokens."""
    asked = {"messages": HELLO} if path == CHAT else {"prompt": "say it again"}
    body = {"model": "writer", "stream": True, **asked}
    direct = httpx.post(running.servers[0].url + path, json=body, timeout=20)
    held = running.replicas[0].hold = threading.Event()
    with httpx.stream("POST", running.url + path, json=body, timeout=20) as answer:
        lines = answer.iter_lines()
        first = next(lines)
        assert first.startswith("data: {")
        held.set()
        rest = [first, *lines]
    told = {"x-request-id": answer.headers["x-request-id"]}
    assert "\n".join(rest).strip() == direct.text.replace("-none", f"-{told['x-request-id']}").strip()
    (row,) = running.rows(1)
    assert (row["completion"], row["finish_reason"]) == ("replica-0 says: say it again", "stop")
    assert (row["prompt_tokens"], row["completion_tokens"]) == (3, 5)
    assert 0 < row["first_token_seconds"] <= row["latency_seconds"]


def test_a_count_that_the_caller_asked_for_is_shown(running):
    """The count of a stream's tokens is hidden only from callers that did not ask for it."""
    body = {"model": "writer", "prompt": "one two", "stream": True}
    without = post(running, COMPLETIONS, body).text
    asked = post(running, COMPLETIONS, {**body, "stream_options": {"include_usage": True, "x": 1}}).text
    assert '"usage"' not in without
    assert asked.count('"usage"') == 1
    assert [each["body"]["stream_options"] for each in running.replicas[0].seen] == [
        {"include_usage": True}, {"include_usage": True, "x": 1},
    ]  # fmt: skip


def test_streams_can_be_left_as_they_are(run_gateway):
    """With `stream_usage: false` nothing is added to a stream's request, and its tokens are not known."""
    running = run_gateway(stream_usage=False)
    post(running, COMPLETIONS, {"model": "writer", "prompt": "one two", "stream": True})
    assert "stream_options" not in running.replicas[0].seen[0]["body"]
    assert running.rows(1)[0]["completion_tokens"] is None


def test_the_versions_name(run_gateway):
    """The model's name becomes the served version's, and the next champion's as soon as the ledger names it."""
    running = run_gateway(served_name="writer-v{version}")
    running.replicas[0].served = {"writer-v1", "writer-v2"}
    body = {"model": "writer", "prompt": "hi", "odd": [1.5]}
    none = post(running, COMPLETIONS, body)
    assert (none.status_code, none.json()["error"]["code"]) == (503, "unavailable")
    running.promote(1, None)
    assert post(running, COMPLETIONS, body).headers["x-driftloop-version"] == "1"
    running.promote(2, 1)
    assert post(running, COMPLETIONS, body).headers["x-driftloop-version"] == "2"
    assert [seen["body"] for seen in running.replicas[0].seen] == [
        {**body, "model": "writer-v1"}, {**body, "model": "writer-v2"},
    ]  # fmt: skip
    assert [row["model_version"] for row in running.rows(2)] == [1, 2]


def test_tools_and_choices(running):
    """A tool's call is logged as its text and as a list, streamed or not; of several choices all are."""
    whole = post(running, CHAT, {"model": "writer", "messages": HELLO, "tools": [WEATHER]}).json()
    assert whole["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "weather"
    post(running, CHAT, {"model": "writer", "messages": HELLO, "tools": [WEATHER], "stream": True})
    post(running, COMPLETIONS, {"model": "writer", "prompt": "hi", "n": 2, "logprobs": 1})
    called, streamed, two = running.rows(3)
    assert called["completion"] == streamed["completion"] == 'weather({"city": "Bern"})'
    assert called["choices"] == streamed["choices"]
    assert called["choices"][0]["tool_calls"] == [{"name": "weather", "arguments": '{"city": "Bern"}'}]
    assert called["finish_reason"] == "tool_calls"
    assert [choice["text"] for choice in two["choices"]] == ["replica-0 says: hi"] * 2


def test_several_prompts_are_several_rows(running):
    """A list of prompts is one request and a row for each; ids of tokens are answered, and counted as not logged."""
    answer = post(running, COMPLETIONS, {"model": "writer", "prompt": ["a b", "c"], "n": 2})
    assert len(answer.json()["choices"]) == 4
    assert post(running, COMPLETIONS, {"model": "writer", "prompt": [1, 2, 3]}).status_code == 200
    rows = sorted(running.rows(2), key=lambda row: row["prompt"])
    own = answer.headers["x-request-id"]
    assert [(row["request_id"], row["prompt"], row["completion"]) for row in rows] == [
        (own, "a b", "replica-0 says: a b"), (f"{own}-1", "c", "replica-0 says: c"),
    ]  # fmt: skip
    page = httpx.get(f"{running.url}/metrics", timeout=20).text
    assert 'driftloop_gateway_log_unreadable_total{model="writer"} 1.0' in page


def test_the_prompts_loss(run_gateway):
    """Its log-probabilities become bits per byte in the log; the caller sees them only when it asked itself."""
    running = run_gateway(prompt_loss_share=1.0)
    prompt = "four words of text"
    hidden = post(running, COMPLETIONS, {"model": "writer", "prompt": prompt}).json()
    shown = post(running, COMPLETIONS, {"model": "writer", "prompt": prompt, "prompt_logprobs": 0}).json()
    chat = post(running, CHAT, {"model": "writer", "messages": [{"role": "user", "content": prompt}]}).json()
    assert [seen["body"]["prompt_logprobs"] for seen in running.replicas[0].seen] == [0, 0, 0]
    assert hidden["choices"][0]["prompt_logprobs"] is None
    assert len(shown["choices"][0]["prompt_logprobs"]) == 4
    assert chat["prompt_logprobs"] is None
    losses = [row["prompt_bits_per_byte"] for row in running.rows(3)]
    bits = 3 * 0.5 / math.log(2)
    assert losses == pytest.approx([bits / 18, bits / 18, bits / len(" words of text")])


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"{", 400, "not valid JSON"),
        (b"[]", 400, "must be a JSON object, and is a list"),
        (b"{}", 400, "provide a model"),
        (b'{"model": 5}', 400, "provide a model"),
        (b"[" * 100_000, 400, "not valid JSON"),
        (b'{"model": "poet"}', 404, "served: writer"),
    ],
    ids=["no-json", "list", "no-model", "model-5", "deep", "unknown"],
)
def test_what_goes_to_nobody(running, body, status, said):
    """A body that names no model of ours is refused in OpenAI's form and reaches no server."""
    answer = post(running, CHAT, body)
    assert answer.status_code == status
    assert said in answer.json()["error"]["message"]
    assert answer.headers["x-request-id"]
    assert running.replicas[0].seen == []


def test_a_body_that_is_too_long(running, monkeypatch):
    """A body over the limit gets 413, whether its length was announced or not, and reaches no server."""
    monkeypatch.setattr("serving.gateway.http.MOST_BODY_BYTES", 1000)
    long = b'{"model": "writer", "prompt": "%s"}' % (b"x" * 2000)
    assert post(running, COMPLETIONS, long).status_code == 413
    parts = (long[at : at + 500] for at in range(0, len(long), 500))
    assert httpx.post(f"{running.url}{COMPLETIONS}", content=parts, timeout=20).status_code == 413
    assert running.replicas[0].seen == []


def test_other_routes(running):
    """Routes of models pass unread and unlogged; a server's own routes, which load weights or run code, are closed."""
    body = {"model": "writer", "input": "x"}
    answer = post(running, "/v1/embeddings", body)
    assert answer.json() == {"object": "list", "path": "/v1/embeddings", "echo": body}
    for path in ("/collective_rpc", "/v1/load_lora_adapter", "/pause", "/v1/../collective_rpc", "/v1/embeddings/../x"):
        assert post(running, path, body).status_code in (404, 405)
    assert httpx.get(f"{running.url}{CHAT}", timeout=20).status_code == 405
    assert [seen["path"] for seen in running.replicas[0].seen] == ["/v1/embeddings"]


def test_models(running):
    """The models are listed as OpenAI lists them; one that is not there is a 404."""
    assert [model.id for model in client(running).models.list()] == ["writer"]
    assert client(running).models.retrieve("writer").owned_by == "driftloop"
    with pytest.raises(openai.NotFoundError):
        client(running).models.retrieve("poet")
