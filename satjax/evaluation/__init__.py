"""How well a router ranks, measured on outcomes."""
