"""How many layers do these rows need? Every k at its own learning rate, chosen on rows that are never reported."""
