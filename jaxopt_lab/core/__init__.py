"""Populations of trials in training: pure functions, cohorts, programs, waves."""
