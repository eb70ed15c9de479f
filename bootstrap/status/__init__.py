"""status: how a cluster is, at a glance. `verify` tries it; this only asks, in two round trips."""
