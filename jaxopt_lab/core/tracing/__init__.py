"""What is found out about a user's functions by tracing them, before anything compiles."""
