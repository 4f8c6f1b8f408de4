"""Completions for rows of users: rows taken in shards, answered by a server or a process of ours, written as files."""
