"""A registry as a place: references, manifests, and models to read and to write."""
