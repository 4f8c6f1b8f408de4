"""One shard answered in a process of its own, which may be killed at a named point."""

import json
import sys

from datasets_defs.core.settings import settings
from datasets_defs.store.database import engine_for
from serving import batch_inference
from tests.serving.generation.conftest import World

if __name__ == "__main__":
    settings.cache_clear()
    batch_inference.ask_shard(json.loads(sys.argv[2]), db=engine_for(sys.argv[1]), outside=World())
