"""One OpenAI-compatible door before any number of models and replicas."""
