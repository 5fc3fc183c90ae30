"""A pool of servers that hold a language model: balanced, batched, streamed.

``python -m examples.inference`` runs it; the folder's README says what to look at.
"""
