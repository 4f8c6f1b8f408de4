"""Commands about GPUs: add serving capacity for a time, and see who has this fleet's GPUs."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from datasets_defs.core.errors import ContractError
from ops.cli.shared import tables
from ops.cli.shared.options import AsJson, Model, Reason, person, require_known
from ops.cli.shared.panels import Panel, add
from ops.cli.shared.times import duration_of


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    add(
        app, scale, Panel.DECIDE,
        'driftloop scale docs-writer --gpu-count 4 --duration 2h --reason "a launch"',
        'driftloop scale docs-writer --down --reason "the launch is over"',
    )  # fmt: skip
    add(app, gpus, Panel.DECIDE, "driftloop gpus", "driftloop gpus --stop theirs/embed/manual__1/-1")


def scale(
    model: Model,
    reason: Reason,
    gpu_count: Annotated[int | None, typer.Option("--gpu-count", min=1, help="GPUs that shall serve it.")] = None,
    lasting: Annotated[str, typer.Option("--duration", help="How long: 30m, 4h, 2d. Then it comes down.")] = "2h",
    down: Annotated[bool, typer.Option("--down", help="Take down at once what was added.")] = False,
) -> None:
    """Have more GPUs serve a model for a time, as its YAML's `scale` says; afterwards it comes down by itself."""
    from datasets_defs.ledger.ledger import Ledger
    from monitors.scale_gpu import scale_by_hand
    from monitors.scaling.stays import come_down
    from ops.stack.database import database

    require_known(model)
    now, db = datetime.now(UTC), database()
    if down:
        tables.plainly(come_down(Ledger(db), model, now=now, actor=person(), at_once=reason))
        return
    if gpu_count is None:
        raise ContractError("say how many GPUs: --gpu-count 4, or --down to take down what was added")
    decision = scale_by_hand(
        model,
        db=db,
        actor=person(),
        reason=reason,
        gpus=gpu_count,
        lasting=duration_of(lasting, "--duration"),
        key=now.isoformat(),
    )
    if not decision.go:
        raise ContractError(f"{model}: {decision.reason}")
    tables.plainly(f"{model}: {decision.reason}. `driftloop scale {model} --down` ends it.")


def gpus(
    stop: Annotated[str | None, typer.Option("--stop", help="Key of a GPU job that shall end.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show who has which GPU, which GPU jobs wait or run, and which capacity was added."""
    from dataclasses import asdict

    from datasets_defs.store.gpu_jobs import jobs_at_work
    from datasets_defs.store.gpu_leases import leases
    from datasets_defs.store.gpu_scaling import stays
    from ops.stack.database import database

    db = database()
    if stop is not None:
        from training.jobs.standing import stop as end

        if not end(stop, db, who=person()):
            raise ContractError(f"no GPU job {stop!r} waits or runs; `driftloop gpus` lists those that do")
        tables.plainly(f"{stop} is ended")
        return
    held, jobs, added = leases(db), jobs_at_work(db), stays(db)
    if as_json:
        tables.print_json({
            "leases": [asdict(lease) for lease in held], "jobs": [asdict(gpu_job) for gpu_job in jobs],
            "added": [asdict(gpu_stay) for gpu_stay in added.values()],
        })  # fmt: skip
        return
    shown = tables.table("machine", "GPU", "", "holder", "since")
    for lease in held:
        shown.add_row(
            lease.machine, lease.device, "held" if lease.is_held else "free", tables.escape(lease.holder),
            f"{lease.since:%Y-%m-%d %H:%M}Z",
        )  # fmt: skip
    tables.console.print(shown) if held else tables.plainly("no GPU was ever leased; DRIFTLOOP_GPU_DEVICES lists them")
    for job in jobs:
        tables.plainly(f"{job.key} on {job.machine}: {job.message}, heard of {job.silent_seconds:.0f} s ago")
    for stay in added.values():
        tables.plainly(f"{stay.model}: {stay.replicas} replicas until {stay.until:%Y-%m-%d %H:%M}Z, then {stay.before}")
