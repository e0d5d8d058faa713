"""A task's directories and files in the vault: made, measured, read and removed, without trust in the job."""
