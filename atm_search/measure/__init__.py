"""Model + configuration + shard -> Measurement."""
