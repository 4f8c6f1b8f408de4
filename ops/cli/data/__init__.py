"""Commands about the log, its labels, and what a training would learn from."""
