"""A first run without arguments, files or network: photographs that ship here, styles drawn by `styles.py`."""
