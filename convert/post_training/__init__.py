"""Post-training quantization: a float NIR graph of any platform, under its contract, becomes a LoihiProgram."""
