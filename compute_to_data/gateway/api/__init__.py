"""``/api/v1``: the operations of ``client`` as resources. Their JSON is that of ``c2d --output json``."""
