"""Loading a log of your own: rows from files become rows of the inference log."""
