"""Whether a window's input drifted: the gates on broken data, the policy, and the detector's state."""
