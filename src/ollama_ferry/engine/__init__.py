"""The one engine: plan what to carry, carry it, and hash every byte on the way."""
