"""The command line, the local stack, the demo."""
