"""Looks at each link between a rule and its task's end, and says what to do about a broken one.

``python3 -m compute_to_data.doctor``; best as root, who can see with the service account's eyes.
Nothing is changed, but for a folder made in each vault and removed at once.
"""
