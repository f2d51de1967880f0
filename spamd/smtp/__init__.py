"""The filtering SMTP proxy: sessions on one side, the next hop on the other. Never imports the model."""
