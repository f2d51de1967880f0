"""Scoring for other machines: the contract as an ASGI application, and Ray Serve around it."""
