"""The data path: trit unpacker, lanes, scale units, result banks and memories."""
