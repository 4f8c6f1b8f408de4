"""`python -m serving --port N`: serve every model of the models folder on the loopback interface."""

import argparse
import logging
from functools import partial

import uvicorn

from datasets_defs.core.settings import settings
from datasets_defs.spec.files import load_all
from datasets_defs.store.database import engine
from serving.app import create_app
from serving.service import Service, fetch_from_registry

log = logging.getLogger("serving")


def main() -> None:
    """Serve until told to stop; requests in flight get ten seconds."""
    parser = argparse.ArgumentParser(prog="python -m serving", description=main.__doc__)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--host", default="127.0.0.1")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    specs, problems = load_all()
    for problem in problems:
        log.error("not served: %s", problem)
    if not specs:
        log.warning("no model is served: %s holds no usable spec", settings().models_dir)
    db = engine()
    service = Service(db, specs, partial(fetch_from_registry, db), problems=tuple(problems))
    uvicorn.run(
        create_app(service),
        host=options.host,
        port=options.port,
        log_level="warning",
        access_log=False,
        timeout_keep_alive=75,  # longer than clients keep idle connections: one that is closed as it is used fails
        timeout_graceful_shutdown=10,
    )


if __name__ == "__main__":
    main()
