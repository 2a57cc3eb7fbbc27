"""``python -m ollama_ferry``."""

from ollama_ferry.cli import main

if __name__ == "__main__":
    main()
