"""The environments of a host's tasks: code that was unpacked, and packages that were installed.

- `needs`: what a project and a job ask for, and what that is called. Pure.
- `base`: what the agent's own environment has, and how a new one is laid over it.
- `steps`: the commands that build one. Pure.
- `build`: runs them, once, for all who wait.
- `shelf`: the folders on disk: whole or not there, in use or free to go.
- `manager`: what the agent asks for.
"""
