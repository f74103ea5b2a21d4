"""The router's networks: decoder LLM, text encoder, profile encoder, and the router model that joins them.

Shape letters, used in names and signatures throughout: B instructions, M candidates, L tokens of the text, S tokens of a
candidate's suffix, K soft tokens of a candidate, T aptitude tasks, C text chunks of a profile, D width of the LLM, E width of
the text encoder, F width of an MLP, H query heads, G key-value heads, h width of a head, N layers, R LoRA rank.
"""
