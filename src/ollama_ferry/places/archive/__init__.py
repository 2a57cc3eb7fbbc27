"""An archive as a place."""
