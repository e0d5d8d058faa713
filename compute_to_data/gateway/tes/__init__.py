"""``/ga4gh/tes/v1``: the GA4GH Task Execution Service, version 1.1.

``routes``: the addresses. ``submitting``: from a TES task to a request of ours. ``listing``: pages of tasks.
``views``: a task of ours as a TES task.
"""
