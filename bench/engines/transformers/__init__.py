"""The default engine: any causal language model of transformers, with a decoding loop of its own."""
