"""What the commands and the Python interface do, a module each."""
