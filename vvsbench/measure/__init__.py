"""How a cell's speed is taken."""
