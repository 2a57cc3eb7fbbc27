"""The one engine: plan what to copy, copy it, and hash every byte on the way."""
