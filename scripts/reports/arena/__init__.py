"""The arena: quantizers of several programs, compared on one base at equal stored bits."""
