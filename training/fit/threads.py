"""How many threads a training may use."""

import os


def use_threads() -> None:
    """Leave one core to serving and the sensors; on two cores, two threads in contention are slower than one."""
    import torch

    torch.set_num_threads(threads_for(1))


def threads_for(processes: int) -> int:
    """Give how many threads each of some processes may use."""
    return max(1, (len(os.sched_getaffinity(0)) - 1) // processes)
