"""The decision against Evidently's preset: one wide window, and a typical hour."""

from collections.abc import Iterator

from tests.benchmarks.evidently_peer import Peer
from tests.benchmarks.figures import Figure, in_child, interleaved
from tests.benchmarks.frames import tables
from tests.benchmarks.ours import Decision


def wide(rows: int, columns: int, runs: int) -> Iterator[Figure]:
    """One window of many rows and columns, the reference as large, in a process of its own.

    The preset is measured once (at 1,000,000 x 50 that is minutes), ours `runs` times before and after it.
    """
    found = in_child("tests.benchmarks.wide", rows, columns, runs)
    cpu, working = found["cpu_seconds"], found["working_bytes"]
    name = "drift.wide"
    for what in ("memory", "parquet", "report", "preset"):
        yield Figure(name=f"{name}.cpu_{what}", value=cpu[what], unit="CPU seconds")
    flagged = found["flagged"]
    same = flagged["memory"] == flagged["parquet"] == flagged["preset"] == found["shifted"]
    yield Figure(name=f"{name}.same_flagged_columns", value=same, unit="", gate=True, better="same")
    yield Figure(name=f"{name}.speed_from_parquet", value=cpu["preset"] / cpu["parquet"], unit="times", gate=60)
    yield Figure(name=f"{name}.speed_in_memory", value=cpu["preset"] / cpu["memory"], unit="times", gate=600)
    share = len(found["shifted"]) / columns
    yield Figure(name=f"{name}.reported_share", value=found["reported_share"], unit="share", gate=share, better="same")
    yield Figure(name=f"{name}.speed_with_report", value=cpu["preset"] / cpu["report"], unit="times", gate=25)
    for what in ("memory", "preset"):
        yield Figure(name=f"{name}.working_bytes_{what}", value=working[what], unit="bytes")
    yield Figure(name=f"{name}.less_memory", value=working["preset"] / working["memory"], unit="times", gate=40)


def hour(reference_rows: int, rows: int, columns: int, runs: int) -> Iterator[Figure]:
    """An ordinary model's hour; the time that importing Evidently takes is not counted."""
    both = tables(reference_rows=reference_rows, rows=rows, columns=columns)
    ours, peer = Decision(both), Peer(both)
    ours()
    peer()
    cpu = interleaved({"ours": ours, "preset": peer}, runs=runs)
    yield Figure(name="drift.hour.cpu_ours", value=cpu["ours"], unit="CPU seconds")
    yield Figure(name="drift.hour.cpu_preset", value=cpu["preset"], unit="CPU seconds")
    yield Figure(name="drift.hour.speed", value=cpu["preset"] / cpu["ours"], unit="times", gate=200)
    ranked = list(ours.evidence.by_column) if ours.evidence is not None else []
    strongest = both.shifted == frozenset(ranked[: len(both.shifted)])
    yield Figure(name="drift.hour.shifted_lead", value=strongest, unit="", gate=True, better="same", exact=True)
