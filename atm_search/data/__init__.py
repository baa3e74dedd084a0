"""Folders and shards in, image tensors out."""
