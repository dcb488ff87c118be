"""What a study costs before it trains: cohort widths, memory, seconds."""
