"""The engine: observe, run, undo, verify. The only place with order, threads and rollback."""
