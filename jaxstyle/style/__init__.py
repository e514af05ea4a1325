"""The mathematics of style transfer, on arrays: objective, solvers, and the one function that batches them."""
