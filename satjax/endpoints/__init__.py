"""What a model behind an address is reached by, and what its answers say before they are read."""
