"""Files that count: created, written, synced, named; and who may do what to them."""
