"""The `driftloop` command, one file for each group of commands."""
