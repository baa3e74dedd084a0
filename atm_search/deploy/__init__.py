"""A configuration and its Measurement to YAML, and YAML to a ready model. No Optuna, no SQL."""
