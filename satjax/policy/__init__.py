"""Which candidate is asked: what of a request is scored, what candidates would cost, and which objective decides."""
