"""A running etcd: what its members say, what to make of that, its upkeep, and snapshots of it."""
