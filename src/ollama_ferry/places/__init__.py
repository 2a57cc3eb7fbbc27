"""What can hold models. Places never know each other; :mod:`ollama_ferry.engine.copy` brings two together."""
