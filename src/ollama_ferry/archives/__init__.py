"""Framing of archives: tar headers, gzip and zstd frames. Nothing here knows of stores or models."""
