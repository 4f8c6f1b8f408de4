"""Measuring and judging: readings become verdicts, verdicts become incidents."""
