"""The endpoints of the opt-out service."""
