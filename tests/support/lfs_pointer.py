"""Git LFS pointer file, and the error message for it."""

__all__ = ["IS_POINTER", "POINTER"]

POINTER = (b"version https://git-lfs.github.com/spec/v1\n"
           b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 9\n")
IS_POINTER = "is a Git LFS pointer, not the file itself; run `git lfs pull` in its directory"
