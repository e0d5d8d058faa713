"""``/api/v1/catalog``: the port ``ClientCatalog`` over HTTP, for ``zones/gateway`` at the other end.

``methods``: one request a method. ``transfers``: content, there and back. ``routes``: the rest, and all together.
"""
