"""A models folder as a place."""
