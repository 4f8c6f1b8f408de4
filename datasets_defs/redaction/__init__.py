"""Secrets, addresses and other personal data taken out of texts, and ids that become names which tell nothing."""
