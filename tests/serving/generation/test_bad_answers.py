"""Every bad answer of an API ends as a row that names what was wrong; none is a crash, and none is passed over."""

import json

import pytest

from tests.serving.generation.conftest import Writer
from tests.serving.generation.simulated_api import SimulatedAnswer, completion, error, simulated_api

HTML = SimulatedAnswer(body=b"<html><body>Bad gateway</body></html>", headers=(("Content-Type", "text/html"),))
FINE = completion("Fine words about it.")
BAD = {
    "429 without Retry-After": (error(429), "rate_limited", 3),
    "429 with Retry-After in seconds": (error(429, Retry_After="0.01"), "rate_limited", 3),
    "429 with a date long ago": (error(429, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT"), "rate_limited", 3),
    "429 with a Retry-After that is none": (error(429, Retry_After="soon"), "rate_limited", 3),
    "429 that asks for an hour": (error(429, Retry_After="3600"), "rate_limited", 1),
    "500": (error(500), "server_error", 3),
    "503 with a page of HTML": (SimulatedAnswer(503, HTML.body), "server_error", 3),
    "500 with NUL and no UTF-8": (SimulatedAnswer(500, b"\x00\xff\x00"), "server_error", 3),
    "408": (error(408), "server_error", 3),
    "200 with a page of HTML": (HTML, "not_json", 3),
    "an empty body": (SimulatedAnswer(), "not_json", 3),
    "JSON cut off, with its length": (SimulatedAnswer(body=FINE.body[:40]), "not_json", 3),
    "half an answer": (SimulatedAnswer(body=FINE.body, then="half"), "broken_off", 3),
    "the connection reset": (SimulatedAnswer(then="reset"), "unreachable", 3),
    "no answer in time": (SimulatedAnswer(then="silent"), "timeout", 1),
    "200 with an error": (SimulatedAnswer(body=b'{"error": {"message": "overloaded"}}'), "error_inside", 3),
    "200 with an error that is a text": (SimulatedAnswer(body=b'{"error": "overloaded"}'), "error_inside", 3),
    "no choices": (SimulatedAnswer(body=b'{"choices": []}'), "no_choices", 3),
    "choices that are no list": (SimulatedAnswer(body=b'{"choices": {"text": "x"}}'), "no_choices", 3),
    "a list": (SimulatedAnswer(body=b"[1, 2]"), "no_choices", 3),
    "null": (SimulatedAnswer(body=b"null"), "no_choices", 3),
    "deeply nested JSON": (SimulatedAnswer(body=b"[" * 100_000), "not_json", 3),
    "content null": (completion(None), "no_text", 1),
    "content blank": (completion(" \n"), "no_text", 1),
    "content that is a number": (SimulatedAnswer(body=b'{"choices": [{"message": {"content": 7}}]}'), "no_text", 1),
    "a call of a tool": (completion(None, finish="tool_calls", tool_calls=[{"id": "1"}]), "no_text", 1),
    "withheld by the filter": (completion("par", finish="content_filter"), "content_filter", 1),
    "400 by the filter": (error(400, code="content_filter"), "content_filter", 1),
    "a refusal of the model's": (completion(None, refusal="I will not."), "model_refused", 1),
    "a prompt too long": (error(400, code="context_length_exceeded"), "prompt_too_long", 1),
    "400": (error(400), "request_refused", 1),
    "a redirect": (error(307, Location="http://127.0.0.1:1/"), "redirected", 1),
}  # fmt: skip
STOPPING = {
    "401": (error(401), "unauthorised"),
    "403": (error(403), "unauthorised"),
    "404": (error(404), "no_such_model"),
    "402": (error(402), "out_of_credit"),
    "429 for want of credit": (error(429, code="insufficient_quota"), "out_of_credit"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_answer_is_a_named_row(writer: Writer, what: str):
    """The prompt with the bad answer fails by name, asked as often as helps; the prompt beside it is published."""
    bad, fault, times = BAD[what]
    with simulated_api(lambda asked: bad if "topic 0." in asked.prompt else FINE) as api:
        writer.topics(2)
        tries = 1 if bad.then == "silent" else 3
        writer.spec(api.url, pace={"tries": tries}, api={"url": api.url, "seconds": 1, "connect_seconds": 5})
        said = writer.run()
    assert writer.rows("state, fault, tries") == [("failed", fault, times), ("published", None, 1)]
    assert "1 failed, 1 published" in said
    reasons = writer.rows("reasons")[0][0]
    assert len(reasons) == 1
    assert len(reasons[0]) > 5


@pytest.mark.parametrize("what", STOPPING)
def test_what_every_prompt_would_meet_is_asked_no_further(writer: Writer, what: str):
    """A key that is refused is found by the first prompts alone; the others stay planned, and the run ends red."""
    from datasets_defs.core.errors import ContractError

    bad, fault = STOPPING[what]
    with simulated_api(lambda _: bad) as api:
        writer.topics(10)
        writer.spec(api.url, pace={"concurrency": 2})
        with pytest.raises(ContractError, match=f"stopped early: {fault}"):
            writer.run()
        assert 1 <= len(api.requests) <= 2
    states = writer.states()
    assert states["failed"] == len(api.requests)
    assert states["planned"] == 10 - len(api.requests)


def test_a_server_that_is_not_there_is_a_named_row(writer: Writer):
    """Nobody listens at the address."""
    writer.topics(1)
    writer.spec("http://127.0.0.1:9", pace={"tries": 2})
    writer.run()
    assert writer.rows("state, fault, tries") == [("failed", "unreachable", 2)]


def test_what_passes_is_asked_again_until_it_is_answered(writer: Writer):
    """Two refusals and a broken answer later the text comes; it counts three requests more, and one text."""
    bad = [error(429), error(500), SimulatedAnswer(then="reset")]
    with simulated_api(lambda asked: bad[asked.times - 1] if asked.times <= len(bad) else FINE) as api:
        writer.topics(1)
        writer.spec(api.url, pace={"tries": 6})
        writer.run()
    assert writer.rows("state, fault, tries") == [("published", None, 4)]


def test_a_failure_that_may_pass_is_asked_in_the_next_run(writer: Writer):
    """A prompt that failed by a server's fault is asked in the next run; one that was refused is not."""
    broken = {"topic 0.": error(500), "topic 1.": error(400)}

    def behave(asked):
        return next((answer for topic, answer in broken.items() if topic in asked.prompt), FINE)

    with simulated_api(behave) as api:
        writer.topics(3)
        writer.spec(api.url)
        writer.run("generate_texts:1")
        assert writer.states() == {"failed": 2, "published": 1}
        broken.clear()
        api.requests.clear()
        writer.run("generate_texts:2")
        assert [asked.prompt for asked in api.requests] == ["Write about topic 0."]
    assert writer.rows("state, fault") == [("published", None), ("failed", "request_refused"), ("published", None)]


def test_bodies_are_what_openai_documents(writer: Writer):
    """A chat's request names model, messages and length, carries the key, and has a key of its own."""
    from datasets_defs.core.addresses import ApiAddress

    with simulated_api(lambda _: FINE) as api:
        writer.topics(1)
        writer.world.addresses["openai"] = ApiAddress(api.url, "sk-1")
        writer.world.variables["name"] = "gpt-x"
        writer.spec(api.url, api={"connection": "openai", "model_variable": "name"}, system="Be brief.")
        writer.run()
        (asked,) = api.requests
    assert asked.path == "/v1/chat/completions"
    assert asked.headers["authorization"] == "Bearer sk-1"
    assert asked.body == {
        "model": "gpt-x", "max_tokens": 256, "temperature": 0.7,
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Write about topic 0."}],
    }  # fmt: skip
    assert json.loads(json.dumps(asked.key)) == writer.rows("key")[0][0]
