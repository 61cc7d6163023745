"""What `make gpu-lab` tries on a machine with GPUs: its facts, its links, and the memory of real engines."""
