"""Protocols: one recipe trained again on less, and measured on what it did not see."""
