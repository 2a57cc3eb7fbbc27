"""Registries that fail on demand, and models to push there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.oci_registries import (
    FaultyRegistry,
    faulty_registry,
)
from support.registry_faults import BIG, SMALL
from support.stores import StoreBuilder, weights


@pytest.fixture
def registry() -> Iterator[FaultyRegistry]:
    with faulty_registry() as server:
        server.add_model("models/m", "1", BIG, SMALL)
        yield server


@pytest.fixture
def empty() -> Iterator[FaultyRegistry]:
    with faulty_registry() as server:
        yield server


@pytest.fixture
def model(source: StoreBuilder) -> StoreBuilder:
    source.model("m:1", [("model", BIG), ("license", SMALL)])
    return source


@pytest.fixture
def many(source: StoreBuilder) -> StoreBuilder:
    source.model("m:1", [("model", SMALL), *(("tensor", weights(100, seed)) for seed in range(3, 43))])
    return source
