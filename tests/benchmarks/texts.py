"""How much of the allowed concurrency `generate_texts` uses, and that each prompt is answered once."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import yaml

from datasets_defs.core.requests import Request
from datasets_defs.store.database import engine_for
from datasets_defs.store.generated_texts import counts_of
from datasets_defs.store.heartbeats import TEXTS_SLOTS
from serving import generate_texts
from tests.benchmarks.figures import ROOT, Figure
from tests.benchmarks.stack import fresh_loop
from tests.serving.generation.conftest import SPEC, World

RUN = "generate_texts:bench"
CONCURRENCY = 8


def figures(prompts: int) -> Iterator[Figure]:
    """Ask so many prompts, in the batches and the processes that Airflow's pool would have at once."""
    command = [sys.executable, "-m", "tests.benchmarks.texts_api"]
    with fresh_loop() as loop, subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as api:
        try:
            assert api.stdout is not None
            url = api.stdout.readline().strip()
            rows = [json.dumps({"topic": f"topic {number}"}) for number in range(prompts)]
            (loop.home / "topics.jsonl").write_text("\n".join(rows))
            section = {
                "topics": {"file": str(loop.home / "topics.jsonl"), "limit": prompts},
                "template": "Write about {{ topic }}.", "api": {"url": url},
                "pace": {"concurrency": CONCURRENCY, "back_off_seconds": 0.1, "batch_prompts": min(500, prompts // 4)},
            }  # fmt: skip
            (loop.home / "models" / "writer.yaml").write_text(yaml.safe_dump({**SPEC, "generate": section}))
            asked = Request.of("writer|texts|1", None, None)
            batches = generate_texts.plan(asked, RUN, db=loop.db, outside=World())
            assert isinstance(batches, list)
            _ask(loop.db.url.render_as_string(hide_password=False), batches)
            told = httpx.post(f"{url}/v1/figures", timeout=30).json()
            states = counts_of(loop.db, RUN, "state")
        finally:
            api.kill()
    allowed = TEXTS_SLOTS * CONCURRENCY
    once = told["answered"] == prompts and told["most"] == 1 and states == {"accepted": prompts}
    yield Figure(name="texts.asked.each_answered_once", value=once, unit="", gate=True, better="same", exact=True)
    yield Figure(name="texts.asked.tasks", value=len(batches), unit="mapped tasks")
    yield Figure(name="texts.asked.refused", value=1 - prompts / (told["requests"] - 1), unit="of requests")
    used = told["busy"] / (told["seconds"] * allowed)
    yield Figure(name="texts.asked.concurrency_used", value=used, unit=f"of {allowed} at once", gate=0.8)
    yield Figure(name="texts.asked.rate", value=prompts / told["seconds"], unit="texts a second")


def _ask(url: str, batches: list[dict[str, Any]]) -> None:
    """Ask the batches in as many processes as the pool has slots."""
    workers = []
    for slot in range(TEXTS_SLOTS):
        command = [sys.executable, "-m", "tests.benchmarks.texts", url, json.dumps(batches[slot::TEXTS_SLOTS])]
        workers.append(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL))
    for worker in workers:
        assert worker.wait(1_800) == 0


if __name__ == "__main__":
    for one in json.loads(sys.argv[2]):
        generate_texts.ask(one, db=engine_for(sys.argv[1]), outside=World())
