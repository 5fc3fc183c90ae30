"""The lab: random programs in random weather, and what must be true of them all the same.

`actors` is what is called, `work` who calls, `climate` what fails, `run` puts one seed's world
together and judges it, ``python -m tests.sim.soak lab`` does so for many seeds.
"""
