"""How trials are executed together: which executor, how many at once."""
