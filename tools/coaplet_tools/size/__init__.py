"""`make size`: what coaplet costs in code and in heap, against its budgets."""
