"""Measurements that anyone can repeat: `python -m benchmarks NAME`. README.md says what each measures."""
