"""The incident ledger: incidents, champions, the hash-chained history, and what a person has paused."""
