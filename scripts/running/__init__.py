"""Commands that run matrices and models on devices, and serve both."""
