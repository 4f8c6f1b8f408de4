"""Where a training runs: a local process, torchrun, or a pod, behind one contract."""
