"""Sources of published data sets, one module for each format."""
