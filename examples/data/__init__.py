"""The words of Python's language reference, counted by a pipeline of zephyr on a cluster.

``python -m examples.data`` runs it; the folder's README says what to look at.
"""
