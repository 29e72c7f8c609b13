"""Datapath: trit unpacker, lanes, scale units, result banks and activation memory."""
