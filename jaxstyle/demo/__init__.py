"""The demo, which needs no arguments, files or network: it has photographs, and `styles.py` draws style images."""
