"""What a frozen model makes of texts: read in batches of few shapes, and kept on disk."""
