"""Waiting for something that happens elsewhere."""

import pytest

from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.core.waiting import wait_until


def test_the_first_true_answer_is_given() -> None:
    """It asks on after a no, and after what is forgiven."""
    left = [TransientError("away"), "", 0, "here", "not asked"]

    def ask() -> object:
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    found = wait_until(ask, seconds=60, every=0, forgive=(TransientError,), complain=lambda _: AssertionError())
    assert (found, left) == ("here", ["not asked"])


def test_in_vain() -> None:
    """When time is up the complaint is raised, with what was forgiven last as its cause; None after a plain no."""

    def away() -> bool:
        raise TransientError("away")

    with pytest.raises(ContractError, match="still: away") as raised:
        wait_until(
            away, seconds=-1, every=0, forgive=(TransientError,), complain=lambda last: ContractError(f"still: {last}")
        )
    assert isinstance(raised.value.__cause__, TransientError)
    with pytest.raises(ContractError, match="still: None"):
        wait_until(lambda: False, seconds=-1, every=0, complain=lambda last: ContractError(f"still: {last}"))


def test_what_is_not_forgiven_is_raised() -> None:
    """An error of another kind ends the waiting at once."""

    def wrong() -> bool:
        raise ContractError("wrong for good")

    with pytest.raises(ContractError, match="wrong for good"):
        wait_until(wrong, seconds=60, forgive=(TransientError,), complain=lambda _: AssertionError())
