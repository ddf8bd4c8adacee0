"""Pretrained networks, each from a pinned package or by name, and the device they run on."""
