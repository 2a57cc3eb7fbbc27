"""A registry as a place."""
