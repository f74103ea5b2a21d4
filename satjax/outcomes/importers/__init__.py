"""Readers of the logs that others write, and what only they share."""
