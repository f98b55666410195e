"""Model code shared by training, evaluation and serving.

generator   one protocol for models that answer prompts; ensembles; a double for tests
local       a model in this process: scores of labels, written text, bits
loading     a model and its tokenizer from a verified folder
hardware    the device, and number formats that it computes in
frozen_layers  the activation cache: frozen lower layers run once over a dataset
varlen      attention over packed records, on GPUs
onednn      products of fp32 matrices on CPUs
tokens      from texts to tokens
chat        from conversations to tokens, by the tokenizer's chat template
"""
