"""Reads pictures, writes outputs, and keeps the manifest and the locks of an output folder. It does not import jax."""
