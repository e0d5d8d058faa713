"""JSON documents: read strictly, held against their schemas, turned into values and back."""
