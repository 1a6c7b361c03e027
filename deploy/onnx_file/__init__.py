"""LoihiProgram -> an ONNX model of one timestep (docs/onnx.md)."""
