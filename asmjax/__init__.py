"""asmjax: minimax training of dense predictors in JAX."""
