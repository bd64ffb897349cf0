"""Critics: networks that judge a structure."""
