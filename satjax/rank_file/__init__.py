"""Ranks a whole file of instructions: streamed, spread over devices and hosts, and continued after a kill where it stopped.

The file is cut into chunks of consecutive rows. A chunk's probabilities are a Parquet file of their own until all are there, so that what
exists is complete, in the order of the input, and no row can be lost or stand twice.
"""
