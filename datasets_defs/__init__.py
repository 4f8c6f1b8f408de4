"""The shared language of the loop: conditions, windows, model specs, the incident ledger and its tables."""
