"""Rows become counts that add up: descriptors, columns, mergeable sketches, and distances between them."""
