"""What statuses of a chat completions endpoint say, for whoever asks one: to be answered, or to find out what it can do."""

REFUSALS = frozenset({401, 402, 404, 405, 407, 410})
"""It refuses whoever asks like this: the key or what is paid for it, the address or the model does not fit."""
OF_THE_REQUEST = frozenset({400, 403, 406, 413, 414, 415, 416, 422, 431, 451})
"""It does not take this one request: its form, its size, or what the law or moderation says of it. 403 may also be of the key: gateways that moderate say so of a single prompt."""
TRANSIENT = frozenset({408, 409, 424, 425, 429, 498, 499, *range(500, 600)})
"""It may well answer when asked again: text-generation-inference gives 424 where it ran out of memory, Groq 498 where it has no capacity left."""
