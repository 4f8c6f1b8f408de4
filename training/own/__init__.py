"""A team's own trainer: what it is given, how it is run and watched, and what its endings mean."""
