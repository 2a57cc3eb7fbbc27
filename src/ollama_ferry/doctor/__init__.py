"""What is wrong with Ollama's models on this machine; it only looks."""
