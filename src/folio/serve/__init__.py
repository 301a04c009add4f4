"""An OpenAI-compatible server over the engine: `folio serve RUN`.

In the order a request meets them: `guard` (keys, sizes, time), `schema` (what a body
may say), `asking` (from a body to the engine's requests), `live` (events as they come),
`answers` (the API's objects). `models` loads what is served, `app` puts it together,
`server` runs it on a port.
"""
