"""Decoding pictures in worker processes: one worker, its process as the run sees it, and the pool of them."""
