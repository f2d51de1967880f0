"""Raw bytes to text and headers: all that knows what an email looks like. No model, no network."""
