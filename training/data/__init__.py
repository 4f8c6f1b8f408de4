"""The frozen rows of one training: what goes in, how it is split, and the snapshot itself."""
