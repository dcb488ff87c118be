"""What is on disk: a study's SQLite file, arrays as bytes, atomic files."""
