"""Preparing text: checks, redaction, duplicates, injected phrases, overlap, corpora, and the report."""
