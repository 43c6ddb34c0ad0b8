"""The opt-out service: takes opt-outs, makes them last, hands them to operators and partners."""
