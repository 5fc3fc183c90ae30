"""The fleet: random histories of a whole cluster, and what must be true of them all the same.

`programs` is what jobs run, `shapes` what they ask for, `users` who launches, stops and reserves,
`climate` what fails. `truth` knows what really ran, whatever anybody says, `audit` compares it with
what the controller says while all that goes on, `verdict` at the end. `run` puts one seed's world
together; ``python -m tests.sim.soak fleet`` does so for many.
"""
