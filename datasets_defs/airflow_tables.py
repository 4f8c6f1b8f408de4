"""Airflow's own tables, which grow with every run: cleaned by Airflow's own command, `airflow db clean`.

The table `dag` is left out: in 3.3 its rows take versions of DAGs along that runs still name, and the whole command
fails (apache/airflow#71864). It has a row for each DAG and does not grow.
"""

import os
import subprocess
import sys
from datetime import datetime, timedelta

from datasets_defs.core.errors import TransientError

TABLES = (
    "dag_run", "task_instance", "task_instance_history", "task_reschedule", "task_state_store", "xcom", "log", "job",
    "asset_event", "partitioned_asset_key_log", "callback", "deadline", "dag_version", "import_error", "revoked_token",
    "connection_test_request", "trigger",
)  # fmt: skip
"""Those that grow, as `airflow db clean` names them."""
BATCH_ROWS = 5000
"""Rows that go in one transaction: the scheduler works beside it."""
LONGEST = timedelta(minutes=30)
_WORDS = 600


def clean(url: str, *, before: datetime) -> str:
    """Delete what is older than a time from Airflow's tables, but each DAG's last run; give what Airflow says.

    `url` is that of Airflow's own database. Killed anywhere and run again, it goes on with what is left.

    Raises:
        TransientError: the database is away, or Airflow could not clean a table.
    """
    command = [
        sys.executable, "-m", "airflow", "db", "clean", "--clean-before-timestamp", before.isoformat(),
        "--tables", ",".join(TABLES), "--batch-size", str(BATCH_ROWS), "--skip-archive", "--yes",
        "--error-on-cleanup-failure",
    ]  # fmt: skip
    environment = {**os.environ, "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=LONGEST.total_seconds(), check=False
        )
    except subprocess.TimeoutExpired as err:
        raise TransientError(f"airflow db clean took longer than {LONGEST}; the next day goes on") from err
    if done.returncode:
        output = (done.stderr.strip() or done.stdout.strip())[-_WORDS:]
        raise TransientError(f"airflow db clean ended with exit code {done.returncode}: {output}")
    return f"Airflow's tables hold what is newer than {before:%Y-%m-%d %H:%M}Z: {_rows(done.stdout)} rows went"


def _rows(words: str) -> int:
    """Add up the rows that the command says it found."""
    counts = (line.split()[1] for line in words.splitlines() if line.startswith("Found ") and " rows meeting" in line)
    return sum(int(count) for count in counts if count.isdigit())
