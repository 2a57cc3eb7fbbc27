"""An archive in volumes."""
