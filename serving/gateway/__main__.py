"""`python -m serving.gateway --port N`: the local stack's door before all models of the models folder."""

import argparse

from serving.gateway.run import run


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m serving.gateway", description=main.__doc__)
    parser.add_argument("--port", type=int, default=8001)
    parser.add_argument("--host", default=None)
    parser.add_argument("--drain-seconds", type=int, default=60)
    options = parser.parse_args()
    run(host=options.host, port=options.port, drain_seconds=options.drain_seconds, needs_models=False)


if __name__ == "__main__":
    main()
