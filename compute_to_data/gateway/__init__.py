"""The gateway: compute to data over HTTP, as ``c2d serve`` runs it.

It is a door like the command line, above ``client`` and ``submission``. The catalog stays the only queue and the only
database: the gateway keeps in memory who has signed in, and nothing else.

- ``settings``: what an administrator decides. ``serving``: sockets, TLS and uvicorn. ``app``: the application, made of
  routers. ``gateway``: what all routers share.
- ``who``: whom a request comes from. ``authenticate``: tokens for passwords. ``signing_in``: people and their tokens.
- ``problems``: errors as RFC 9457 documents. ``request_bounds``: how much a request may bring, and how slowly.
- ``api``: ``/api/v1``. ``api_page``: its page for people. ``catalog``: ``/api/v1/catalog``. ``following``: shared logs.
- ``registry``: ``/api/process_definition/``, the face of a process registry.
- ``tes``: ``/ga4gh/tes/v1``, the GA4GH Task Execution Service.
- ``health``: ``/healthz``, ``/readyz``, ``/metrics``.

A new part is a router that ``app`` includes. It gets the person by ``Depends(signed_in)``, reads a body with
``request_bounds.document`` and makes blocking calls in a worker thread.
"""
