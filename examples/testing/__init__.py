"""A small project with a bug, and the tests that find it: see README.md."""
