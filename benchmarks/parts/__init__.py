"""The parts of the benchmark, in the order in which they run; each can be run alone with ``--only NAME``."""

from __future__ import annotations

from parts import growth, http, one_model, small_blobs, ssh, start_up, two_models, weight_kinds
from setting import Part

PARTS: dict[str, Part] = {
    "one-model": one_model.PART,
    "weight-kinds": weight_kinds.PART,
    "two-models": two_models.PART,
    "small-blobs": small_blobs.PART,
    "start-up": start_up.PART,
    "ssh": ssh.PART,
    "http": http.PART,
    "growth": growth.PART,
}
