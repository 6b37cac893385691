"""Fast layers: LoRA on 4-bit weights, packed attention, fused decoder layers, Triton kernels.

It imports no other package; training and generation plug it in.
Start at `fused_layer`.
"""
