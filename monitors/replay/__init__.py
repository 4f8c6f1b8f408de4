"""Judging stored windows again, with the live policy or another one."""
