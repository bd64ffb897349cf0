"""Networks: layers, predictors and critics."""
