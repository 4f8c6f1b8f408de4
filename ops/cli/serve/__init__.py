"""Commands about who asks, and through which door."""
