"""Serving capacity that is added for a time: the decision, who gives it, and the way up and down."""
