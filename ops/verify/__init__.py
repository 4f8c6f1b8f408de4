"""`driftloop verify`: the invariants, and the reading that they are held against."""
