"""One tab a file: components, and callbacks that are thin over the functions beside."""
