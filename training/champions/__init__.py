"""What follows a change of champion: confirmation by serving, and drills."""
