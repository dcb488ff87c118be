"""Parts of the throughput benchmark: cases, workers, peers."""
