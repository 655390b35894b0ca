"""A folder of sounds → a checked collection → chunks."""
