"""The enclave package: what goes into it, what it is, where it runs."""
