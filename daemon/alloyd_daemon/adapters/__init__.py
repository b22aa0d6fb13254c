"""LoRA adapters as PEFT writes them: read, checked, and laid over the checkpoint that they were trained on."""
