"""Stands in for Marin's RL workers."""
