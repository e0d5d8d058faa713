"""The step that runs the job, and what belongs to the job: its commands, its log, and why it ended."""
