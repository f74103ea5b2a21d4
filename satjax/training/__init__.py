"""What a run of `satjax.train` is made of: what it starts from, what its steps read, the steps, what it tells, and the router that it ends with."""
