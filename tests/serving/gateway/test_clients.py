"""The clients that people have ask the gateway as they ask OpenAI, and each request is a row."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import openai
import pytest

QUESTION = [{"role": "user", "content": "say it again"}]
SAID = "replica-0 says: say it again"
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
PACKAGES = ("langchain-openai==1.7.4", "litellm==1.108.7")
"""They pin what we pin otherwise, so they live in an environment of their own."""


@pytest.fixture
def versioned(run_gateway):
    """A gateway whose server knows the model by its version's name."""
    running = run_gateway(served_name="writer-v{version}")
    running.replicas[0].served = {"writer-v1"}
    running.promote(1, None)
    return running


def test_openai(versioned):
    """OpenAI's client, sync and async, streaming or not, with tools, n and log-probabilities, needs no other code."""
    client = openai.OpenAI(base_url=f"{versioned.url}/v1", api_key="unused", max_retries=0)
    chat, ask = client.chat.completions.create, client.completions.create
    said = chat(model="writer", messages=QUESTION, n=2)
    assert [choice.message.content for choice in said.choices] == [SAID, SAID]
    streamed = chat(model="writer", messages=QUESTION, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in streamed) == SAID
    called = chat(model="writer", messages=QUESTION, tools=[TOOL]).choices[0].message.tool_calls
    assert (called[0].function.name, json.loads(called[0].function.arguments)) == ("weather", {"city": "Bern"})
    counted = list(ask(model="writer", prompt="say it again", stream=True, stream_options={"include_usage": True}))
    assert (counted[-1].choices, counted[-1].usage.completion_tokens) == ([], 5)
    assert ask(model="writer", prompt="one", logprobs=1).choices[0].logprobs.token_logprobs == [-0.1] * 3
    with client.chat.completions.stream(model="writer", messages=QUESTION, tools=[TOOL]) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.tool_calls[0].function.arguments == '{"city": "Bern"}'

    async def at_once():
        async with openai.AsyncOpenAI(base_url=f"{versioned.url}/v1", api_key="unused", max_retries=0) as client:
            whole = [client.chat.completions.create(model="writer", messages=QUESTION) for _ in range(8)]
            parts = await client.chat.completions.create(model="writer", messages=QUESTION, stream=True)
            texts = [chunk.choices[0].delta.content or "" async for chunk in parts]
            return [each.choices[0].message.content for each in await asyncio.gather(*whole)] + ["".join(texts)]

    assert asyncio.run(at_once()) == [SAID] * 9
    rows = versioned.rows(15)
    assert {row["model_version"] for row in rows} == {1}
    assert len(rows) == 15


def test_curl(versioned):
    """`curl` asks, streams without buffering, and gives feedback."""
    url = f"{versioned.url}/v1"

    def curl(*words):
        return subprocess.run(["curl", "-sS", *words], capture_output=True, text=True, check=True, timeout=30).stdout

    def sends(body):
        return ("-H", "Content-Type: application/json", "-d", json.dumps(body))

    body = {"model": "writer", "messages": QUESTION}
    answer = json.loads(curl(f"{url}/chat/completions", *sends(body)))
    assert answer["choices"][0]["message"]["content"] == SAID
    lines = curl("-N", f"{url}/chat/completions", *sends({**body, "stream": True})).splitlines()
    assert (lines[0][:6], lines[-2]) == ("data: ", "data: [DONE]")
    word = {"model": "writer", "request_id": answer["id"], "score": 0.5}
    assert json.loads(curl(f"{url}/feedback", *sends(word)))["stored"] is True


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_langchain_and_litellm(versioned):
    """LangChain's ChatOpenAI and OpenAI (its prompt is a list of one) and LiteLLM's SDK need no other code."""
    cache = Path(os.environ.get("BENCH_CACHE", Path.home() / ".cache" / "driftloop-bench")) / "clients"
    python = cache / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", cache], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *PACKAGES], check=True)
    script = Path(__file__).with_name("other_clients.py")
    command = [python, script, f"{versioned.url}/v1", "writer"]
    env = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LANGCHAIN_TRACING_V2": "false"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=env)
    assert done.returncode == 0, done.stderr[-2000:]
    came = json.loads(done.stdout.splitlines()[-1])
    assert came.pop("langchain_tools") == ["weather"]
    assert came == dict.fromkeys(came, SAID)
    assert len(came) == 7
    rows = versioned.rows(8)
    assert {row["prompt"] for row in rows if row["messages"] is None} == {"say it again"}
