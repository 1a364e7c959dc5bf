"""Certificates of continuous decoding: rules and loops against laws that are known in closed form."""
