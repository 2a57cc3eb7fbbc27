"""A read-only registry of chosen models, which ``ollama pull`` and every other client of a registry can ask."""
