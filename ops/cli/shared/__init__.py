"""What the commands share: their panels, options and times, and all that they print."""
