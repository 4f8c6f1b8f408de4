"""What an hour of the week usually looks like: its calendar, what was learned of it, and which hours are still new."""
