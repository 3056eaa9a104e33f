"""Faults at every step that the plans know: the steps, the operator that asks at each, scenarios, what must hold then."""
