"""What tests of the registry share: a proxy before the run's MLflow."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.proxy import Proxy, proxy


@pytest.fixture
def door(mlflow_url: str) -> Iterator[Proxy]:
    """What stands before the run's MLflow, and can trouble or ask whoever comes."""
    with proxy(urlsplit(mlflow_url).port or 0) as between:
        yield between
