"""The `driftloop` command: what its commands share, and a folder for each panel of its help."""
