"""Language models as files and in memory: safe loading, adapters, sampling, and models made from scratch."""
