"""One batch asked in a process of its own, which may be killed at a named point."""

import json
import sys

from datasets_defs.core.settings import settings
from datasets_defs.store.database import engine_for
from serving import generate_texts
from tests.serving.generation.conftest import World

if __name__ == "__main__":
    what, url, argument = sys.argv[1:4]
    settings.cache_clear()
    db, world = engine_for(url), World()
    if what == "ask":
        said = generate_texts.ask(json.loads(argument), db=db, outside=world)
    else:
        said = generate_texts.publish(argument, db=db, outside=world).reason
    sys.stdout.write(said)
