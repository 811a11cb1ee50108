"""Encoders (one backbone per file), fusion, and the multimodal classifier over them."""
