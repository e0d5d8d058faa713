"""Files and folders of this computer: what to upload, sending many at a time, and filling a folder."""
