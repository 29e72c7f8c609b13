"""How the small shipped model was made."""
