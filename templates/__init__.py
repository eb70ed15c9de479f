"""Templates of files that go to machines, read by `bootstrap.render`."""
