"""The mathematics of style transfer on arrays: objective, solvers, and the one `jax.vmap` that batches them."""
