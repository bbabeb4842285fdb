"""A model as one GGUF file, which llama.cpp and what is built on it read.

vocabulary.py  the tokenizer, as llama.cpp knows tokenizers
write.py       shape, weights and vocabulary into the file
check.py       the file loaded again: by transformers, and by llama.cpp where that is installed
command.py     `python -m cai.models export`

May be imported from here: nothing; its modules are imported by name.
"""
