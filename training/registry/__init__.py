"""Versions in MLflow: registration, manifests, aliases, model cards, and what a training ran with."""
