"""Stands in for Marin in the seed's examples: RL of one number, over files in a directory."""
