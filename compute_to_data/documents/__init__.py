"""JSON documents: strict reading, validation against schemas, conversion to values and back."""
