"""UID2 confidential operator: a simulated TEE for development and tests; never part of the enclave image."""
