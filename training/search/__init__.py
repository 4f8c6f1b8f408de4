"""Settings that a training on schedule tries: which ones, what came of each, and which one won."""
