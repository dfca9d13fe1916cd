"""Where the core meets toolkits."""
