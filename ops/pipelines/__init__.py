"""Pipelines that a team runs beside the loop, shown on the demo's stack: `driftloop pipelines`."""
