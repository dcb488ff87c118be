"""The executor `kernel`: a program on a GPU for each trial, whose state stays on the chip."""
