"""The model, one alone or many stacked; the hub's models; examples as tokens, losses, memory."""
