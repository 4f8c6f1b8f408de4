"""Breaks of the data by name: what pipelines do to texts and columns, found before any statistics."""
