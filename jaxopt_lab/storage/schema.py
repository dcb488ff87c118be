"""The tables of a study's file."""

SCHEMA = 3
TABLES = """
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE decisions (number INTEGER PRIMARY KEY, kind TEXT NOT NULL, value TEXT NOT NULL);
CREATE TABLE trials (
    trial_id INTEGER PRIMARY KEY,
    phase TEXT NOT NULL,
    status TEXT NOT NULL,
    score REAL,
    standard_error REAL,
    reason TEXT NOT NULL DEFAULT '',
    config TEXT NOT NULL);
CREATE TABLE members (
    trial_id INTEGER NOT NULL,
    fold INTEGER NOT NULL,
    replicate INTEGER NOT NULL,
    score REAL,
    reason TEXT NOT NULL DEFAULT '',
    best_unit INTEGER NOT NULL,
    curves BLOB NOT NULL,
    outputs BLOB NOT NULL,
    num_outputs INTEGER NOT NULL,
    num_units INTEGER NOT NULL,
    PRIMARY KEY (trial_id, fold, replicate)) WITHOUT ROWID;
CREATE TABLE waves (
    number INTEGER PRIMARY KEY,
    phase TEXT NOT NULL,
    seconds REAL NOT NULL,
    compile_seconds REAL NOT NULL,
    jobs INTEGER NOT NULL,
    units INTEGER NOT NULL,
    program TEXT NOT NULL);
"""
#: Also what a study of an earlier version may lack. The index is there so that what is asked after
#: each wave does not take longer the more trials there are.
MORE = """
CREATE TABLE IF NOT EXISTS arrays (
    kind TEXT NOT NULL,
    trial_id INTEGER NOT NULL,
    fold INTEGER NOT NULL,
    replicate INTEGER NOT NULL,
    content BLOB NOT NULL,
    PRIMARY KEY (kind, trial_id, fold, replicate));
CREATE INDEX IF NOT EXISTS trials_by_score ON trials (status, score, trial_id);
"""
