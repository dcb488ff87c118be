"""The whole job on a table: search phases, winner, ensemble, files."""
