"""What can hold models. Places never know each other; :mod:`ollama_ferry.copying` brings two together."""
