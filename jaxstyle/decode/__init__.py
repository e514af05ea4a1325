"""Decodes pictures in worker processes: the worker, the parent's handle of its process, and a pool of workers."""
