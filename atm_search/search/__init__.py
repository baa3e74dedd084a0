"""Optuna over a SQL store: space, study, worker, frontier."""
