"""What was fetched or can be made again, and where it is kept."""
