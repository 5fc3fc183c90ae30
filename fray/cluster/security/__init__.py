"""Who may do what on a cluster: signed tokens, roles and their limits, keys and certificates.

`claims` says what a token tells, `tokens` signs and judges, `revocations` and `register` know what
no longer counts, `credentials` is what one process shows to others and expects of them, `keyring`
keeps the files. What each role may call is declared with the control API (`fray.cluster.access`)
and enforced by `fray.cluster.controller.guard`.
"""
