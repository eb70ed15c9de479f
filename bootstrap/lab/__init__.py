"""Labs: throw-away machines with systemd and sshd, as podman containers, to try kubestrap and to test it on.

A lab has a key, a network that no traffic leaves, machines, and an inventory for them. From the moment they run they
are reached by SSH alone, and nothing else in kubestrap knows that they are no ordinary machines.
"""

from bootstrap.lab.labs import Lab, down, find, names, save, states, up
from bootstrap.lab.machines import Machine

__all__ = ["Lab", "Machine", "down", "find", "names", "save", "states", "up"]
