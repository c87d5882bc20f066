"""Students that talk: data, methods and the loop that trains them."""
