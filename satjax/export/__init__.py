"""The directory that a trained router is: written and read whole, described by its card, converted for other programs."""
