"""Texts for publication: prompts from topics, answers of an OpenAI-compatible API, the quality gate, where texts go."""
