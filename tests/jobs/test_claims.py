"""Who gets a name at a target: decided once, for every job that writes models."""

from __future__ import annotations

import pytest

from ollama_ferry.errors import AlreadyExists, UsageError
from ollama_ferry.jobs.claims import Claims, ExistingModel, require_distinct, require_one


def test_a_free_name_and_the_same_model_are_no_conflict() -> None:
    claims = Claims("the store", replace=False)
    assert claims.claim("a", "a", "a", None)
    assert claims.claim("b", "b", "b", ExistingModel(same=True, id="0123"))
    claims.raise_conflicts("nothing was done")


def test_another_model_keeps_its_name_unless_it_may_be_replaced() -> None:
    claims = Claims("the store", replace=False)
    assert not claims.claim("a", "a", "a", ExistingModel(same=False, id="0123456789ab"))
    assert not claims.claim("b", "b", "b", ExistingModel(same=False))
    assert claims.conflicts
    with pytest.raises(AlreadyExists) as caught:
        claims.raise_conflicts("nothing was sent")
    assert str(caught.value) == (
        "a is in the store already, as 0123456789ab, and is another one; b is in the store already, and is another one "
        "(nothing was sent)"
    )
    assert [remedy.parameter for remedy in caught.value.remedies] == ["replace", "rename", "models"]
    assert Claims("the store", replace=True).claim("a", "a", "a", ExistingModel(same=False, id="0123456789ab"))


def test_names_that_differ_in_case_only_are_one() -> None:
    claims = Claims("the store", replace=True)
    assert claims.claim("m:q6_K", "m:q6_K", "m:q6_k", None)
    assert not claims.claim("m:q6_k", "m:q6_K", "m:q6_k", None)
    with pytest.raises(AlreadyExists, match="case"):
        claims.raise_conflicts("")


def test_one_new_name_is_for_one_model() -> None:
    require_one(["a"], "the archive")
    with pytest.raises(UsageError, match="several models of the archive"):
        require_one(["a", "b"], "the archive")
    require_distinct([("a", "x"), ("b", "y"), ("a", "x")])
    with pytest.raises(UsageError, match="a and b would both become x"):
        require_distinct([("a", "x"), ("b", "x")])
