"""Tensors in, fewer tensors out: schedules, matching, merging, one method per file. Torch only."""
