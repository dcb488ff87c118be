"""A table as a problem, and trained networks that leave the study."""
