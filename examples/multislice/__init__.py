"""Training on slices that come and go: the seed's multi-slice training on `fray.group`.

``python -m examples.multislice`` runs it; the folder's README says what to look at.
"""
