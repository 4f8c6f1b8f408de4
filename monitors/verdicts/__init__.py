"""What every sensor shares: how verdicts are kept, confirmed, and turned into an incident."""
