"""The steps from a job that has ended to registered results: checked, annotated, and put where they are to be."""
