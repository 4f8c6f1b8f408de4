"""The index of prompts: where they lie, what lies near, and what new kinds of them are about."""
