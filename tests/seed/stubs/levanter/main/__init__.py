"""Stands in for Levanter's programs."""
