"""Servers that hold versions: what can be asked of one, a file for each kind, and how a version gets onto all."""
