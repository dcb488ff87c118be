"""A study: problem and search space in, trained and scored trials out."""
