"""Fine-tuning: data as token ids, trainer, loss, memory plan, checkpoints, logs.

It may import `models`, `layers`, `scoring`, `corpus` and `core`, and nothing that decodes.
Start at `session`, which puts a training together.
"""
