"""`python -m serving` as its own process with a real language model, MLflow being away."""

import os
import signal
import subprocess
import sys
import time

import httpx
import openai
import pytest

from datasets_defs.core.windows import EPOCH, Window
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.model import FromScratch
from datasets_defs.store import inference_log
from datasets_defs.store.artifacts import file_sha256
from datasets_defs.store.database import engine_for
from datasets_defs.store.versions import note_version
from ops.stack.ports import free_port

TEXTS = ["The interpreter reads a line and evaluates it. " * 20, "A list holds items in order; a dict, by key. " * 20]
SPEC = """
name: writer
base_model: {layers: 1, width: 32, heads: 2, vocabulary: 400, context: 64}
training_text: builtin:python-docs
serving: {kind: driftloop, max_completion_tokens: 32}
"""


@pytest.fixture
def process(home, database_url):
    """A serving process whose champion lies in its cache."""
    from training.model.language_model import LanguageModel
    from training.registry.manifest import MANIFEST, make_manifest

    (home / "models" / "writer.yaml").write_text(SPEC)
    (home / "models" / "broken.yaml").write_text("name: another\n")
    folder = home / "serving-cache" / "writer" / "v1"
    folder.mkdir(parents=True)
    LanguageModel.scratch(FromScratch(layers=1, width=32, heads=2, vocabulary=400, context=64), TEXTS).save(folder)
    make_manifest(folder)
    engine = engine_for(database_url)
    note_version(engine, "writer", 1, file_sha256(folder / MANIFEST), actor="test")
    Ledger(engine).change_champion("writer", expected=None, to=1, kind="bootstrap", reason="first", actor="test")
    port = free_port()
    away = f"http://127.0.0.1:{free_port()}"
    environment = {**os.environ, "DRIFTLOOP_DATABASE_URL": database_url, "DRIFTLOOP_MLFLOW_URL": away}
    command = [sys.executable, "-m", "serving", "--port", str(port)]
    running = subprocess.Popen(command, env=environment, cwd="/")
    yield running, f"http://127.0.0.1:{port}", engine
    running.kill()
    running.wait()
    engine.dispose()


def loaded(url):
    try:
        return httpx.get(f"{url}/healthz").status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.slow
def test_real_process(process, wait_until):
    """The champion is served from the cache, limits are told as OpenAI tells them, SIGTERM loses no row."""
    running, url, engine = process
    wait_until(lambda: loaded(url), 90)
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0)

    def ask(**changes):
        return client.completions.create(**{"model": "writer", "prompt": "A list holds", "seed": 1, **changes})

    answer = ask(max_tokens=8)
    assert answer.usage.completion_tokens <= 8
    assert answer.choices[0].text == ask(max_tokens=8).choices[0].text, "a seed gives one completion"
    assert ask(temperature=0).choices[0].text == ask(temperature=0).choices[0].text
    with pytest.raises(openai.BadRequestError) as caught:
        ask(prompt="word " * 200)
    assert caught.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError, match="allows 32"):
        ask(max_tokens=33)
    assert "broken.yaml: field base_model" in httpx.get(f"{url}/healthz").json()["problems"][0]

    running.send_signal(signal.SIGTERM)
    assert running.wait(30) in (0, -signal.SIGTERM)
    ever = Window(EPOCH, EPOCH.fromtimestamp(time.time() + 60, EPOCH.tzinfo))
    rows = inference_log.read_window(engine, "writer", ever, limit=10)
    assert len(rows) == 4
    assert all(0 < row["prompt_bits_per_byte"] < 20 for row in rows)
