"""The pages of `docs/reference`, written from the code: one file for each kind of page."""
