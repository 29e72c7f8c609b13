"""Text in the manifest about the format of its files."""

__all__ = ["GUIDE", "READING"]

READING = {
    "json": "UTF-8. Floats are bit patterns, each the hex digits of one unsigned integer, high "
            "digit first: 3f800000 is 1.0 in float32. Matrices are lists of rows.",
    "bin": "Bytes in the order in which they pass; word n of L bytes is bytes n L to n L + L - 1.",
    "safetensors": "As docs/packed-format.md has it.",
}

#: Kinds of files by pattern.
GUIDE = {
    "trits.json":
        "digits: D0..D4 of each byte 0..255; canonical: whether a writer may write it.",
    "activations.json":
        "floats in float64; x: int8; x_scale in float64.",
    "packed/d*/": "A checkpoint of one shard, format version 1, all matrices of one depth.",
    "packed/forms/": "A checkpoint of two shards, format version 2: forms, dtypes, depths, tensors "
                     "that are kept.",
    "packed/digits/": "A checkpoint of one shard, format version 3: forms that add up digits.",
    "packed/experts/": "A checkpoint of one shard, format version 4: slices of two tensors with "
                       "three dimensions, two depths.",
    "packed/groups/": "A checkpoint of one shard, format version 5: groups of other lengths, coded "
                      "and direct scales, several depths.",
    "packed/*-renamed/": "The same checkpoint under the file names that writers use now; the "
                         "others, but packed/experts and packed/groups, have the names of "
                         "tritstream 0.1.0.",
    "weights/*.json":
        "A matrix of packed/forms, packed/digits or packed/experts: form and dtype; table in "
        "float32; q (N, K); codes (N, K/16); weights in bits of the dtype, zeros without sign. Of "
        "a slice: axes, tensor and index; slice: the weights in the order of the tensor.",
    "products/d*/*.json":
        "A matrix of packed/d*: table in float32; its 27 mantissas; of small ones q, codes and "
        "weights in float16, as above; products: x is int8, x_scale float64, sums are exact "
        "integers, results float32. floats: what x and x_scale were made of. bias: float32, in "
        "results_with_bias.",
    "groups/*.json":
        "A matrix of packed/groups: group length; kind and dtype of the scales; q (N, K); scales "
        "as they are stored, or table and codes (N, C); weights in float32, zeros without sign; "
        "mantissas (N, C); units in float64, by row; products as above; device_group: columns of "
        "the device groups in words and frames.",
    "words/L*/groups-*.bin": "The word stream of a matrix of packed/groups.",
    "words/L*/d*-*.bin": "The word stream of a matrix for a device of L lanes.",
    "frames/L*/*.json":
        "A session with a device of L lanes: needs: columns and max K the device must have at "
        "least; exchanges: each has request, offset and size in *.requests.bin, and answers, whose "
        "bytes are offset and size in *.answers.bin. device: [field, offset in *.answers.bin, "
        "size] of what depends on the device or on time, zero in the file; a tester checks that "
        "the trailer, which is named among these, is the CRC-32 of what came, and does not compare "
        "these bytes. optional: a RESULT of a GEMV that is refused at its end, which a device need "
        "not have sent.",
    "frames/L*/*.requests.bin": "All requests of a session, back to back, as bytes.",
    "frames/L*/*.answers.bin": "All answers of a session, back to back, as bytes.",
}
