"""Images of the services: their layers, what is in them, and where that came from."""
