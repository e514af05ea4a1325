"""Measures how good stylized pictures are, and compares programs by whole fronts of content against style."""
