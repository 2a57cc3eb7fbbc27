"""The program on this machine: where its store is, and what its server says and does."""
