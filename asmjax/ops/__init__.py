"""Array operations of networks, losses and metrics."""
