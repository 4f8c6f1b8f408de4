"""`python -m ops.stack.warm_scheduler`: Airflow's scheduler, with what most tasks import already imported.

LocalExecutor forks its workers from the scheduler and each task from a worker. So no task has to import a library that
the scheduler holds already: that saves up to four seconds of a core, and its memory is shared. An Airflow of your own
does without.
"""

import importlib
import logging
import sys

LIBRARIES = ("mlflow", "evidently", "pandas", "scipy.stats", "pyarrow.parquet")
"""What the hourly tasks need; not torch, whose threads do not outlive a fork."""


def warm(libraries: tuple[str, ...] = LIBRARIES) -> list[str]:
    """Import what can be imported and give its names: the rest is for the tasks to fail with, each with its reason."""
    done = []
    for name in libraries:
        try:
            importlib.import_module(name)
        except ImportError as err:
            logging.getLogger(__name__).warning("not imported beforehand: %s", err)
        else:
            done.append(name)
    return done


def main() -> None:
    """Become the scheduler; the arguments are its own."""
    warm()
    from airflow.__main__ import main as airflow

    sys.argv = ["airflow", "scheduler", *sys.argv[1:]]
    airflow()


if __name__ == "__main__":
    main()
