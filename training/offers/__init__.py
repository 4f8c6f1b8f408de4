"""Versions that others made: their files taken in and checked, and the rows that judge them."""
