"""llama.cpp's file format, GGUF: which models it holds exactly, written and read back."""
