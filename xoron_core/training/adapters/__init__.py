"""Low-rank adapters on the language model, through peft; nothing here loads peft before adapters are asked for."""
