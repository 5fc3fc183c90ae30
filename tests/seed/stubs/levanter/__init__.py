"""Stands in for Levanter in the seed's examples: trains and infers in microseconds."""
