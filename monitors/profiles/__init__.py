"""What a champion's ordinary traffic looks like: its profile, how it is calibrated, and when it is renewed."""
