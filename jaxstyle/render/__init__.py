"""The engine: from files, through the lanes of the device, to files."""
