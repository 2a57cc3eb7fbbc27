"""How a release is made: ``./dev release`` (docs/releasing.md)."""
