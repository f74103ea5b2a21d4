"""An OpenAI-compatible door: requests are routed to the backend of the best candidate, by `satjax serve`.

Nothing here is imported unless something is served; FastAPI, uvicorn, httpx and prometheus-client come with `pip install -e '.[serve]'` in the checkout.
"""
