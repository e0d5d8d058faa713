"""HTTP/1.1 on one connection: uvicorn listens, and gives each connection to one of ours.

``reader``: requests out of bytes, by llhttp. ``exchange``: one request and its answer, for the application.
``connection``: one after the other, with bounds of time and size. ``body_thread``: a large body, straight from the
socket.
"""
