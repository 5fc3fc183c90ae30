"""A small language model, trained by several processes that average their gradients in JAX.

``python -m examples.training`` runs it; the folder's README says what to look at.
"""
