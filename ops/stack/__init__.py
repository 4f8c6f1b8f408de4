"""The local stack: every component under one supervisor, and what starts, checks and stops them."""
