"""The loop's PostgreSQL and its artifacts: one file for each kind of thing that is kept."""
