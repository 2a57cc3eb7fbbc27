"""Models to serve."""

from __future__ import annotations

import pytest

from support.served_here import fill
from support.stores import StoreBuilder


@pytest.fixture
def filled(source: StoreBuilder) -> StoreBuilder:
    return fill(source)
