"""Base weights: where they come from, the file formats they come in, and the names they go by."""
