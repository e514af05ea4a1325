"""Where pictures come from and where they go. Nothing in here imports jax."""
