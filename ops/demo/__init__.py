"""The demo: the loop closes before your eyes, on real text."""
