"""From a config to an experiment and its folder."""
