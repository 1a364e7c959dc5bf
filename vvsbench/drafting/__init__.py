"""Draft sources and the trees they grow: anything cheap that proposes tokens for a target to verify."""
