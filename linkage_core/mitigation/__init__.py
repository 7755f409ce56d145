"""Mitigations of linkage: mechanisms that finetune heads, what they guarantee, and the controls beside them."""
