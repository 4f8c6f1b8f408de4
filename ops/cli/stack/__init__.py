"""Commands about the local stack and the files that describe models."""
