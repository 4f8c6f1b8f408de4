"""`python -m tests.monitors.scaling.scaling_step STEP ABOUT`: one step of scaling in a process that may be killed."""

import sys
from datetime import datetime

from datasets_defs.core.settings import settings
from datasets_defs.store.database import engine_for
from monitors.scale_gpu import come_down, scale_gpu


def main() -> None:
    """Run the step and print what it said."""
    step, about = sys.argv[1:]
    db = engine_for(settings().database_url)
    if step == "up":
        sys.stdout.write(scale_gpu(about, db=db, actor="scale_gpu:1").reason)
    else:
        sys.stdout.write(str(come_down(db=db, actor="reconcile:1", now=datetime.fromisoformat(about))))


if __name__ == "__main__":
    main()
