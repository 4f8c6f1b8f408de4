"""The gateway's pure parts: streams cut into events, replicas that rest and come back, prompts' losses."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.gateway.answers import bits_per_byte
from serving.gateway.breaker import FAILURES, LONGEST_REST, Breaker, Replica, Replicas
from serving.gateway.events import Events, only_usage, payload

ENDS = st.sampled_from([b"\n\n", b"\r\n\r\n", b"\r\r"])
LINES = st.sampled_from([b"data: {}", b"data: [DONE]", b": ping", b"event: x\ndata: 1", 'data: {"a": "é"}'.encode()])


@given(st.lists(st.tuples(LINES, ENDS), max_size=8), st.binary(max_size=5), st.data())
def test_events_whatever_the_chunks(parts, tail, data):
    """Wherever a stream is cut into chunks, the same bytes come out, and each event but the last is whole."""
    tail = tail.replace(b"\n", b"").replace(b"\r", b"")
    stream = b"".join(line + end for line, end in parts) + tail
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    events, out = Events(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        out += events.feed(stream[start:end])
    assert b"".join(out) + events.rest() == stream
    assert all(event.endswith((b"\n\n", b"\r\n\r\n", b"\r\r")) for event in out)


def test_an_endless_event_is_passed_on(monkeypatch):
    """What grows over the limit without an end is handed on as it is, and no longer held."""
    monkeypatch.setattr("serving.gateway.events.LONGEST", 10)
    events = Events()
    assert events.feed(b"data: 45678") == [b"data: 45678"]
    assert events.rest() == b""


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (b'data: {"a": 1}\n\n', {"a": 1}),
        (b'data:{"a": 1}\r\n\r\n', {"a": 1}),
        (b'event: x\nid: 1\ndata: {"a":\ndata: 1}\n\n', {"a": 1}),
        (b"data: [DONE]\n\n", None),
        (b": ping\n\n", None),
        (b"data: 5\n\n", None),
        (b"data: \xff\n\n", None),
        (b"", None),
    ],
)
def test_payload(event, said):
    """An event's JSON object is found over several lines and line ends; what holds none is none."""
    assert payload(event) == said


@pytest.mark.parametrize(
    ("said", "only"),
    [
        ({"choices": [], "usage": {"prompt_tokens": 1}}, True),
        ({"choices": [], "usage": None}, False),
        ({"choices": [{"index": 0, "text": "", "finish_reason": "stop"}], "usage": {"prompt_tokens": 1}}, False),
        ({"choices": [{"index": 0, "text": 'say "usage"'}]}, False),
        ({"usage": {"prompt_tokens": 1}}, False),
    ],
)
def test_only_the_count_is_hidden(said, only):
    """Only an event that counts tokens and says nothing else is one; text that speaks of usage is text."""
    assert only_usage(b"data: " + json.dumps(said).encode() + b"\n\n") is only


def test_a_breaker_opens_and_closes():
    """After three failures in a row it rests, longer each time; then one request tries, and success closes it."""
    breaker = Breaker()
    for _ in range(FAILURES - 1):
        breaker.failed(0.0)
    breaker.succeeded()
    for at in range(FAILURES):
        assert breaker.may(0.0)
        breaker.failed(float(at))
    assert (breaker.may(2.9), breaker.may(3.0)) == (False, True)
    breaker.begins()
    assert not breaker.may(3.0)  # one tries, the others stay away
    breaker.abandoned()
    assert breaker.may(3.0)
    rests = []
    for _ in range(8):
        breaker.begins()
        breaker.failed(100.0)
        rests.append(breaker.until - 100.0)
    assert rests == [2.0, 4.0, 8.0, 16.0, LONGEST_REST, LONGEST_REST, LONGEST_REST, LONGEST_REST]
    breaker.succeeded()
    assert breaker.may(100.0)


def test_the_least_busy_replica():
    """The replica with the fewest requests in flight is asked, equals in turn; resting and tried ones are not."""
    one, two, three = (Replica(f"http://{at}") for at in "abc")
    replicas = Replicas((one, two, three))
    seen = []
    for turn in range(6):
        replicas.turn = turn
        seen.append(replicas.pick(0.0))
    assert seen == [one, two, three, one, two, three]
    one.in_flight = two.in_flight = 1
    assert replicas.pick(0.0) is three
    assert replicas.pick(0.0, [three]) in (one, two)
    for replica in (one, two, three):
        for _ in range(FAILURES):
            replica.breaker.failed(10.0)
    assert (replicas.pick(10.5), replicas.rest(10.5)) == (None, 0.5)
    assert Replicas(()).pick(0.0) is None


@pytest.mark.parametrize(
    ("logprobs", "prompt", "loss"),
    [
        ([None, {"5": {"logprob": -math.log(2), "decoded_token": "bc"}}], "abc", 1 / 3),
        ([None, {"5": {"logprob": -math.log(2), "decoded_token": "bé"}}], None, 1 / 3),
        ([None, {"5": {"logprob": -1.0}, "6": {"logprob": -9.0}}], "a", 1 / math.log(2)),
        ([None], "a", None),
        ([], "a", None),
        ([None, {"5": {"logprob": -1.0}}], "", None),
        ([None, {"5": {"logprob": float("-inf")}}], "a", None),
        ([None, {"5": {}}], "a", None),
        ([None, None], "a", None),
        ([None, 5], "a", None),
    ],
)
def test_a_prompts_loss(logprobs, prompt, loss):
    """Bits of the tokens after the first, over the prompt's bytes or the tokens' own; what is unreadable is no loss."""
    assert bits_per_byte(logprobs, prompt) == (None if loss is None else pytest.approx(loss))
