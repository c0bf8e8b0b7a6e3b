"""The hubs: Hugging Face, ModelScope, AIS Square, and mirrors of them."""
