"""Functions for the tests of GPU jobs, as a user's module has them."""

import os


def product(left: int, right: int) -> dict[str, object]:
    """Multiply, and say what was seen."""
    return {"product": left * right, "gpus": os.environ["CUDA_VISIBLE_DEVICES"]}


def everyone() -> dict[str, str]:
    """Meet the other processes of the group, and say how many there are."""
    from torch import distributed

    distributed.init_process_group("gloo")
    found: list[str | None] = [None] * distributed.get_world_size()
    distributed.all_gather_object(found, os.environ["LOCAL_RANK"])
    distributed.destroy_process_group()
    return {"ranks": ",".join(str(each) for each in found), "gpus": os.environ["CUDA_VISIBLE_DEVICES"]}


class Holder:
    """Has a function that another process can find."""

    @staticmethod
    def seven() -> int:
        """Give 7."""
        return 7
