"""`python -m bootstrap` is `kubestrap`."""

from bootstrap.cli import main

main()
