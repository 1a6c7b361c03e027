"""Why two traces differ: the first place, what stood there, and which other rule would have given the other side."""
